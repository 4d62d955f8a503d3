-- Every asset class has windows to train, to validate and to test on.
with

wanted as (
    select
        runs.asset_class,
        splits.split,
        runs.longest_run
    from (
        select asset_class, max(history_bars) + 1 as longest_run
        from features.bar_features
        group by asset_class
    ) as runs
    cross join (select unnest(['train', 'validation', 'test']) as split) as splits
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
