-- One row per model, fold, strategy, seed, benchmark, minimum duration and UTC day: the improvement of the fold's test windows that begin in it, each averaged over buying and selling.
with

order_windows as (
    select
        model,
        asset_class,
        fold,
        strategy,
        seed,
        benchmark,
        target,
        minimum_duration,
        symbol,
        bar_start,
        -- A window that could not be both bought and sold is none.
        if(count(slippage_bps) = 2, -avg(slippage_bps), null) as improvement_bps,
        any_value(volatility_bps) as volatility_bps
    from results.walk_forward_results
    group by all
)

select
    model, -- registered model whose way of being made is tried
    asset_class, -- family of instruments: crypto or dow
    fold, -- which stretch before the hold-out is tested on, counted from 1
    strategy, -- who sliced the order
    seed, -- of training; null for baselines
    benchmark, -- price the order is measured against: VWAP or TWAP
    target, -- what is fixed: quantity (units)
    minimum_duration, -- first bar in which the order may be complete
    -- A day is a UTC day whatever the session's time zone.
    (bar_start at time zone 'UTC')::date as trading_day, -- UTC day in which the order windows begin
    count(improvement_bps) as order_windows, -- order windows that begin in this day, over all symbols
    sum(improvement_bps) as improvement_bps, -- their improvements added up; positive is good
    sum(improvement_bps / nullif(volatility_bps, 0)) as improvement_sigma -- the same in volatilities of one bar
from order_windows
group by all
order by all
