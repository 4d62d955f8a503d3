-- One row per model, strategy, benchmark, target, minimum duration and UTC day: the improvement of the order windows that begin in it, each averaged over buying and selling, which removes drift.

with order_results as (
    select * from results.order_results
),

buys as (
    select * from order_results where side = 'buy'
),

sells as (
    select * from order_results where side = 'sell'
),

order_windows as (
    select
        model,
        asset_class,
        strategy,
        benchmark,
        target,
        minimum_duration,
        -- A day is a UTC day whatever the session's time zone.
        (bar_start at time zone 'UTC')::date as trading_day,
        -(buys.slippage_bps + sells.slippage_bps) / 2 as improvement_bps,
        -(buys.fixed_window_slippage_bps + sells.fixed_window_slippage_bps) / 2 as fixed_window_improvement_bps,
        -(buys.arrival_slippage_bps + sells.arrival_slippage_bps) / 2 as arrival_improvement_bps,
        improvement_bps / nullif(buys.volatility_bps, 0) as improvement_sigma,
        (buys.impact_bps + sells.impact_bps) / 2 as impact_bps
    from buys
    join sells using (model, asset_class, strategy, symbol, bar_start, benchmark, target, minimum_duration)
)

select
    model, -- registered model the orders were run for
    asset_class, -- family of instruments: crypto or dow
    strategy, -- who sliced the order
    benchmark, -- price the order is measured against: VWAP or TWAP
    target, -- what is fixed: quantity (units) or notional (currency)
    minimum_duration, -- first bar in which the order may be complete
    trading_day, -- UTC day in which the order windows begin
    count(improvement_bps) as order_windows, -- order windows that begin in this day, over all symbols
    sum(improvement_bps) as improvement_bps, -- their improvements added up; positive is good
    sum(fixed_window_improvement_bps) as fixed_window_improvement_bps, -- the same against the benchmark of the whole horizon
    sum(arrival_improvement_bps) as arrival_improvement_bps, -- the same against the last close before the order
    sum(improvement_sigma) as improvement_sigma, -- improvements in volatilities of one bar, added up
    sum(impact_bps) as impact_bps -- square-root impact of the orders at one percent of a day's volume, added up
from order_windows
group by all
order by all
