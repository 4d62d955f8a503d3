-- No bar of a window, lookback and horizon included, is one that the gap ledger masks.
select
    order_windows.asset_class,
    order_windows.symbol,
    order_windows.bar_start,
    gap_ledger.bar_start as masked_bar,
    'the window holds a bar that the ledger masks (' || gap_ledger.kind || ': ' || gap_ledger.reason || ')' as reason
from windows.order_windows
inner join quality.gap_ledger
    on order_windows.asset_class = gap_ledger.asset_class
    and order_windows.symbol = gap_ledger.symbol
    and gap_ledger.bar_number between order_windows.bar_number - $lookback + 1
    and order_windows.bar_number + $horizon - 1
where gap_ledger.is_masked
