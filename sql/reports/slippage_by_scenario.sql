-- One row per model, strategy and order scenario: the slippage of its orders, as mean, dispersion, tails and timing.

with order_results as (
    select
        *,
        -- A day is a UTC day whatever the session's time zone.
        date_trunc('day', bar_start at time zone 'UTC') as trading_day
    from results.order_results
),

slippage_per_scenario as (
    select
        model,
        asset_class,
        strategy,
        side,
        benchmark,
        target,
        minimum_duration,
        count(slippage_bps) as orders,
        avg(slippage_bps) as mean_slippage_bps,
        stddev_samp(slippage_bps) as std_slippage_bps,
        quantile_cont(slippage_bps, [0.01, 0.05, 0.5, 0.95, 0.99]) as percentiles_bps,
        max(slippage_bps) as worst_slippage_bps,
        avg((slippage_bps < 0)::int) as win_rate,
        avg(fixed_window_slippage_bps) as mean_fixed_window_slippage_bps,
        avg(arrival_slippage_bps) as mean_arrival_slippage_bps,
        avg(completion_bar) as mean_completion_bar,
        quantile_disc(completion_bar, [0.1, 0.5, 0.9]) as completion_bars,
        avg(largest_participation) as mean_largest_participation
    from order_results
    group by all
),

worst_twentieth as (
    select
        model,
        asset_class,
        strategy,
        side,
        benchmark,
        target,
        minimum_duration,
        count(*) as worst_orders,
        avg(slippage_bps) as cvar95_slippage_bps,
        sum(slippage_bps - percentiles_bps[4]) / any_value(orders) as mean_excess_bps
    from order_results
    join slippage_per_scenario using (model, asset_class, strategy, side, benchmark, target, minimum_duration)
    where slippage_bps >= percentiles_bps[4]
    group by all
),

slippage_per_day as (
    select
        model,
        asset_class,
        strategy,
        side,
        benchmark,
        target,
        minimum_duration,
        trading_day,
        count(slippage_bps) as day_orders,
        sum(slippage_bps) as total_slippage_bps,
        sum(fixed_window_slippage_bps) as total_fixed_window_slippage_bps,
        sum(arrival_slippage_bps) as total_arrival_slippage_bps,
        count(*) filter (where slippage_bps < 0) as won,
        sum(completion_bar) as total_completion_bar,
        sum(largest_participation) as total_largest_participation,
        sum(greatest(slippage_bps - percentiles_bps[4], 0)) as total_excess_bps
    from order_results
    join slippage_per_scenario using (model, asset_class, strategy, side, benchmark, target, minimum_duration)
    group by all
),

-- Assets move together, so the orders of one day count as one observation: residuals are summed within a
-- day before they are squared.
day_clusters as (
    select
        model,
        asset_class,
        strategy,
        side,
        benchmark,
        target,
        minimum_duration,
        count(*) as days,
        sqrt(sum(pow(total_slippage_bps - day_orders * mean_slippage_bps, 2))) / sum(day_orders) as standard_error_bps,
        sqrt(sum(pow(
            total_fixed_window_slippage_bps - day_orders * mean_fixed_window_slippage_bps, 2
        ))) / sum(day_orders) as fixed_window_standard_error_bps,
        sqrt(sum(pow(
            total_arrival_slippage_bps - day_orders * mean_arrival_slippage_bps, 2
        ))) / sum(day_orders) as arrival_standard_error_bps,
        sqrt(sum(pow(won - day_orders * win_rate, 2))) / sum(day_orders) as win_rate_standard_error,
        sqrt(sum(pow(
            total_completion_bar - day_orders * mean_completion_bar, 2
        ))) / sum(day_orders) as completion_bar_standard_error,
        sqrt(sum(pow(
            total_largest_participation - day_orders * mean_largest_participation, 2
        ))) / sum(day_orders) as largest_participation_standard_error,
        -- The influence of an order on the mean of the worst is what it lies above where they begin.
        sqrt(sum(pow(total_excess_bps - day_orders * mean_excess_bps, 2))) / any_value(worst_orders)
        as cvar95_standard_error_bps
    from slippage_per_day
    join slippage_per_scenario using (model, asset_class, strategy, side, benchmark, target, minimum_duration)
    join worst_twentieth using (model, asset_class, strategy, side, benchmark, target, minimum_duration)
    group by all
)

-- A single cluster leaves no residual: with one day the standard error is unknown, not zero.
select
    model, -- registered model the orders were run for
    asset_class, -- family of instruments: crypto or dow
    strategy, -- who sliced the order: LEM, TWAP, volume curve
    side, -- buy or sell
    benchmark, -- price the order is measured against: VWAP or TWAP
    target, -- what is fixed: quantity (units) or notional (currency)
    minimum_duration, -- first bar in which the order may be complete
    orders, -- number of parent orders
    days, -- number of UTC days those orders start in, the clusters of every standard error
    mean_slippage_bps, -- mean slippage over the realised window; positive is a cost
    std_slippage_bps, -- standard deviation over orders: the risk of a single order
    if(days > 1, standard_error_bps, null) as standard_error_bps, -- day-clustered standard error of the mean slippage; empty for a single day
    percentiles_bps[3] as median_slippage_bps, -- half of the orders cost less
    percentiles_bps[1] as p01_slippage_bps, -- the best 1 % of the orders cost less
    percentiles_bps[2] as p05_slippage_bps, -- the best 5 % of the orders cost less
    percentiles_bps[4] as p95_slippage_bps, -- the worst 5 % of the orders cost more
    percentiles_bps[5] as p99_slippage_bps, -- the worst 1 % of the orders cost more
    cvar95_slippage_bps, -- mean of the worst 5 % of the orders
    if(days > 1, cvar95_standard_error_bps, null) as cvar95_standard_error_bps, -- its day-clustered standard error
    worst_slippage_bps, -- the costliest order
    win_rate, -- fraction of orders that beat their benchmark
    if(days > 1, win_rate_standard_error, null) as win_rate_standard_error, -- its day-clustered standard error
    mean_fixed_window_slippage_bps, -- mean slippage with the benchmark over the whole horizon, which no strategy can choose
    if(days > 1, fixed_window_standard_error_bps, null) as fixed_window_standard_error_bps, -- its day-clustered standard error
    mean_arrival_slippage_bps, -- mean slippage against the last close before the order
    if(days > 1, arrival_standard_error_bps, null) as arrival_standard_error_bps, -- its day-clustered standard error
    mean_completion_bar, -- mean bar in which the order is complete, counted from 1
    if(days > 1, completion_bar_standard_error, null) as completion_bar_standard_error, -- its day-clustered standard error
    completion_bars[1] as p10_completion_bar, -- a tenth of the orders is complete in this bar or before
    completion_bars[2] as median_completion_bar, -- half of them are
    completion_bars[3] as p90_completion_bar, -- nine tenths are
    mean_largest_participation, -- mean over orders of the largest child order as a fraction of its bar's volume
    if(days > 1, largest_participation_standard_error, null) as largest_participation_standard_error -- its day-clustered standard error
from slippage_per_scenario
join worst_twentieth using (model, asset_class, strategy, side, benchmark, target, minimum_duration)
join day_clusters using (model, asset_class, strategy, side, benchmark, target, minimum_duration)
order by model, strategy, side, benchmark, target, minimum_duration
