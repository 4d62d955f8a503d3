-- The split of the order window that each bar begins in one walk-forward fold, if any; in the order of the panel.
select walk_forward.split
from features.bar_features
left join windows.walk_forward
    on bar_features.asset_class = walk_forward.asset_class
    and bar_features.symbol = walk_forward.symbol
    and bar_features.bar_number = walk_forward.bar_number
    and walk_forward.fold = $fold
where list_contains($asset_classes, bar_features.asset_class)
order by bar_features.asset_class, bar_features.symbol, bar_features.bar_number
