-- No feature of a complete row is null, infinite or not a number.
with

complete as (
    select * exclude (bar_number, segment, history_bars, is_complete)
    from features.bar_features
    where is_complete
),

long as (
    select *
    from complete
    unpivot include nulls (
        feature_value for feature in (columns(* exclude (asset_class, symbol, bar_start)))
    )
)

select
    asset_class,
    symbol,
    bar_start,
    feature,
    feature || ' is ' || coalesce(feature_value::varchar, 'null') || '; guard its division or logarithm' as reason
from long
where feature_value is null or not isfinite(feature_value)
