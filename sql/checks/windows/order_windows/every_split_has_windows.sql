-- Every asset class has windows to train, to validate and to test on.
with

wanted as (
    select
        classes.asset_class,
        splits.split,
        coalesce(max(bar_features.history_bars) + 1, 0) as longest_run
    from (select unnest($asset_classes) as asset_class) as classes
    cross join (select unnest(['train', 'validation', 'test']) as split) as splits
    left join features.bar_features on classes.asset_class = bar_features.asset_class
    group by all
)

select
    wanted.asset_class,
    wanted.split,
    wanted.longest_run,
    'no order window of ' || wanted.asset_class || ' fits the ' || wanted.split || ' split: a window spans '
    || ($lookback + $horizon - 1) || ' bars after 48 of history, and the longest unbroken run has '
    || wanted.longest_run || '; ingest a longer period, or shorten lookback or horizon' as reason
from wanted
left join windows.order_windows
    on wanted.asset_class = order_windows.asset_class and wanted.split = order_windows.split
where order_windows.split is null
