-- Every bar of some asset classes, symbol by symbol in time order, with the split of the order window it begins, if any.
select
    bar_features.* exclude (segment, history_bars, is_complete),
    order_windows.split
from features.bar_features
left join windows.order_windows
    on bar_features.asset_class = order_windows.asset_class
    and bar_features.symbol = order_windows.symbol
    and bar_features.bar_number = order_windows.bar_number
where list_contains($asset_classes, bar_features.asset_class)
order by bar_features.asset_class, bar_features.symbol, bar_features.bar_number
