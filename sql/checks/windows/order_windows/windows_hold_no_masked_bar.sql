-- No bar of a window, lookback and horizon included, is one that the gap ledger masks.
with

-- Every place at which a window could begin that holds the bar: a join of ranges would compare each window with each bar.
masked as (
    select
        *,
        unnest(range(bar_number - $horizon + 1, bar_number + $lookback)) as window_number
    from quality.gap_ledger
    where is_masked
)

select
    order_windows.asset_class,
    order_windows.symbol,
    order_windows.bar_start,
    masked.bar_start as masked_bar,
    'the window holds a bar that the ledger masks (' || masked.kind || ': ' || masked.reason || ')' as reason
from windows.order_windows
inner join masked
    on order_windows.asset_class = masked.asset_class
    and order_windows.symbol = masked.symbol
    and order_windows.bar_number = masked.window_number
