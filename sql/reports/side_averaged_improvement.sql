-- One row per model, strategy, benchmark, target and minimum duration: the improvement of an order window, averaged over buying and selling it, which removes drift.

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
        symbol,
        bar_start,
        benchmark,
        target,
        minimum_duration,
        -(buys.slippage_bps + sells.slippage_bps) / 2 as improvement_bps,
        improvement_bps / nullif(buys.volatility_bps, 0) as improvement_sigma
    from buys
    join sells using (model, asset_class, strategy, symbol, bar_start, benchmark, target, minimum_duration)
),

twap_windows as (
    select * from order_windows where strategy = 'TWAP'
),

stopping_windows as (
    select * from order_windows where strategy = 'no-forecast stopping'
),

paired_windows as (
    select
        order_windows.*,
        order_windows.improvement_bps - twap_windows.improvement_bps as edge_over_twap_bps,
        order_windows.improvement_bps - stopping_windows.improvement_bps as edge_over_stopping_bps,
        -- A day is a UTC day whatever the session's time zone.
        date_trunc('day', bar_start at time zone 'UTC') as trading_day
    from order_windows
    left join twap_windows using (model, asset_class, symbol, bar_start, benchmark, target, minimum_duration)
    left join stopping_windows using (model, asset_class, symbol, bar_start, benchmark, target, minimum_duration)
),

improvement_per_scenario as (
    select
        model,
        asset_class,
        strategy,
        benchmark,
        target,
        minimum_duration,
        count(improvement_bps) as orders,
        avg(improvement_bps) as mean_improvement_bps,
        stddev_samp(improvement_bps) as std_improvement_bps,
        avg(improvement_sigma) as mean_improvement_sigma,
        avg(edge_over_twap_bps) as edge_over_twap_bps,
        avg(edge_over_stopping_bps) as edge_over_stopping_bps
    from paired_windows
    group by all
),

-- Assets move together, so the windows of one day count as one observation: residuals are summed within a
-- day before they are squared.
residuals_per_day as (
    select
        model,
        asset_class,
        strategy,
        benchmark,
        target,
        minimum_duration,
        trading_day,
        count(improvement_bps) as windows,
        count(improvement_sigma) as sigma_windows,
        count(paired_windows.edge_over_twap_bps) as paired,
        count(paired_windows.edge_over_stopping_bps) as paired_with_stopping,
        sum(improvement_bps) - windows * any_value(mean_improvement_bps) as improvement_residual,
        sum(improvement_sigma) - sigma_windows * any_value(mean_improvement_sigma) as sigma_residual,
        sum(paired_windows.edge_over_twap_bps)
            - paired * any_value(improvement_per_scenario.edge_over_twap_bps) as edge_residual,
        sum(paired_windows.edge_over_stopping_bps)
            - paired_with_stopping * any_value(improvement_per_scenario.edge_over_stopping_bps) as stopping_residual
    from paired_windows
    join improvement_per_scenario using (model, asset_class, strategy, benchmark, target, minimum_duration)
    group by all
),

day_clusters as (
    select
        model,
        asset_class,
        strategy,
        benchmark,
        target,
        minimum_duration,
        count(*) as days,
        sqrt(sum(pow(improvement_residual, 2))) / sum(windows) as standard_error_bps,
        sqrt(sum(pow(sigma_residual, 2))) / nullif(sum(sigma_windows), 0) as standard_error_sigma,
        sqrt(sum(pow(edge_residual, 2))) / nullif(sum(paired), 0) as edge_over_twap_standard_error_bps,
        sqrt(sum(pow(stopping_residual, 2))) / nullif(sum(paired_with_stopping), 0)
            as edge_over_stopping_standard_error_bps
    from residuals_per_day
    group by all
)

-- A single cluster leaves no residual: with one day the standard error is unknown, not zero.
select
    model, -- registered model the orders were run for
    asset_class, -- family of instruments: crypto or dow
    strategy, -- who sliced the order: LEM, no-forecast stopping, TWAP, volume curve
    benchmark, -- price the order is measured against: VWAP or TWAP
    target, -- what is fixed: quantity (units) or notional (currency)
    minimum_duration, -- first bar in which the order may be complete
    orders, -- number of order windows, each bought and sold once
    days, -- number of UTC days those windows start in, the clusters of every standard error
    mean_improvement_bps, -- mean over windows of minus the average of buy and sell slippage; positive is good
    std_improvement_bps, -- standard deviation of that improvement over windows
    if(days > 1, standard_error_bps, null) as standard_error_bps, -- day-clustered standard error of the mean improvement; empty for a single day
    mean_improvement_sigma, -- mean improvement in units of the one-bar volatility at the order's start
    if(days > 1, standard_error_sigma, null) as standard_error_sigma, -- its day-clustered standard error
    edge_over_twap_bps, -- mean paired difference to the improvement of strategy TWAP in the same window
    if(days > 1, edge_over_twap_standard_error_bps, null) as edge_over_twap_standard_error_bps, -- day-clustered standard error of the paired difference
    edge_over_stopping_bps, -- mean paired difference to strategy no-forecast stopping in the same window
    if(days > 1, edge_over_stopping_standard_error_bps, null) as edge_over_stopping_standard_error_bps -- its day-clustered standard error
from improvement_per_scenario
join day_clusters using (model, asset_class, strategy, benchmark, target, minimum_duration)
order by model, strategy, benchmark, target, minimum_duration
