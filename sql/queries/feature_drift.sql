-- One row per asset class and feature: the population stability index between the time that a champion was trained and chosen in and its newest shadow orders, and the highest that a stretch of that time as long had.
with

shadow_windows as (
    select distinct asset_class, symbol, bar_start
    from results.shadow_orders
    where model = $model and version = $version
),

shadow_bars as (
    select
        asset_class,
        symbol,
        unnest(range(bar_number, bar_number + $horizon)) as bar_number
    from shadow_windows
    inner join features.bar_features using (asset_class, symbol, bar_start)
),

bars as (
    select
        bar_features.* exclude (price, close, volume, volatility, expected_volume, segment, history_bars),
        shadow_bars.bar_number is not null as is_shadow,
        min(bar_start) filter (where is_shadow) over by_class as first_shadow,
        max(bar_start) filter (where is_shadow) over by_class as last_shadow
    from features.bar_features
    left join shadow_bars using (asset_class, symbol, bar_number)
    where list_contains($asset_classes, asset_class) and is_complete
    window by_class as (partition by asset_class)
),

-- A bar of training, or of the newest days.
compared as (
    select
        * exclude (is_complete, is_shadow),
        is_shadow and bar_start > last_shadow - to_days($days) as is_newest
    from bars
    where is_newest or bar_start between $trained_from and $chosen_until
),

-- Stretches as long as the newest one say what is usual for a feature that moves slowly; what is left over is none.
lengths as (
    select
        asset_class,
        max(bar_number) filter (where is_newest) - min(bar_number) filter (where is_newest) + 1 as length,
        min(bar_number) filter (where not is_newest) as starts_at,
        (max(bar_number) filter (where not is_newest) - starts_at + 1) // length as stretches,
        -- A day is a UTC day whatever the session's time zone.
        (min(first_shadow) at time zone 'UTC')::date as first_day,
        (max(last_shadow) at time zone 'UTC')::date as last_day
    from compared
    group by asset_class
),

drawn as (
    select
        compared.* exclude (symbol, bar_start, bar_number, first_shadow, last_shadow),
        if(is_newest, -1, (bar_number - starts_at) // length) as stretch
    from compared
    inner join lengths using (asset_class)
    where length is not null
),

observations as (
    unpivot drawn on columns(* exclude (asset_class, is_newest, stretch)) into name feature value observed
),

edges as (
    select
        asset_class,
        feature,
        avg(observed) as training_mean,
        stddev_samp(observed) as training_std,
        quantile_disc(observed, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]) as deciles
    from observations
    where not is_newest
    group by all
),

counts as (
    select
        asset_class,
        feature,
        stretch,
        len(list_filter(deciles, lambda decile: decile < observed)) as bin,
        count(*) as bars,
        sum(observed) as total
    from observations
    inner join edges using (asset_class, feature)
    group by all
),

training as (
    select asset_class, feature, bin, sum(bars) as training_bars
    from counts
    where stretch >= 0
    group by all
),

-- Half a bar is added to each bin, as a share of nothing has no logarithm; a bin that is empty in both says nothing.
shares as (
    select
        asset_class,
        feature,
        stretch,
        (coalesce(bars, 0) + 0.5) / sum(coalesce(bars, 0) + 0.5) over by_stretch as share,
        (coalesce(training_bars, 0) + 0.5) / sum(coalesce(training_bars, 0) + 0.5) over by_stretch as training_share
    from (select distinct asset_class, feature, stretch from counts)
    inner join lengths using (asset_class)
    cross join range(0, 10) as bins (bin)
    left join counts using (asset_class, feature, stretch, bin)
    left join training using (asset_class, feature, bin)
    where stretch < stretches and coalesce(bars, training_bars) is not null
    window by_stretch as (partition by asset_class, feature, stretch)
),

indices as (
    select asset_class, feature, stretch, sum((share - training_share) * ln(share / training_share)) as psi
    from shares
    group by all
),

newest as (
    select asset_class, feature, sum(bars)::bigint as bars, sum(total) / sum(bars) as newest_mean
    from counts
    where stretch = -1
    group by all
)

select
    asset_class, -- family of instruments: crypto or dow
    feature, -- name of the feature
    any_value(psi) filter (where stretch = -1) as psi, -- population stability index of the newest bars, over ten bins of training
    max(psi) filter (where stretch >= 0) as highest_training_psi, -- the highest of any stretch of training as long
    count(*) filter (where stretch >= 0) as stretches, -- how many such stretches there are
    training_mean, -- mean over the time that the champion was trained and chosen in
    training_std, -- their standard deviation
    newest_mean, -- mean over the newest bars
    bars, -- newest bars, over all symbols
    first_day, -- UTC day of the champion's first shadow order
    last_day -- UTC day of the last bar of its shadow orders
from indices
inner join edges using (asset_class, feature)
inner join newest using (asset_class, feature)
inner join lengths using (asset_class)
group by all
order by psi desc
