-- Every fold of every asset class has windows to train, to validate and to test on.
select
    asset_class,
    fold,
    split,
    'walk-forward fold ' || fold || ' of ' || asset_class || ' has no ' || split
    || ' window; ask for fewer folds, or ingest a longer period' as reason
from (select unnest($asset_classes) as asset_class)
cross join range(1, $folds + 1) as folds (fold)
cross join (select unnest(['train', 'validation', 'test']) as split)
anti join windows.walk_forward using (asset_class, fold, split)
