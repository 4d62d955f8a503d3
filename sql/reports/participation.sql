-- One row per model, strategy and minimum duration: how much of their bars' volume the child orders of one percent of a day's volume are, a fixed quantity against VWAP.

with orders as (
    select
        *,
        -- A day is a UTC day whatever the session's time zone.
        (bar_start at time zone 'UTC')::date as trading_day
    from results.order_results
    where benchmark = 'VWAP' and target = 'quantity'
),

means as (
    select
        model,
        asset_class,
        strategy,
        minimum_duration,
        count(*) as orders,
        count(distinct trading_day) as days,
        avg(mean_participation) as mean_participation,
        avg(largest_participation) as largest_participation,
        quantile_cont(largest_participation, 0.95) as p95_participation,
        max(largest_participation) as most_participation
    from orders
    group by all
),

-- Assets move together, so the orders of one day count as one observation.
residuals as (
    select
        model,
        strategy,
        minimum_duration,
        trading_day,
        sum(orders.mean_participation - means.mean_participation) as mean_residual,
        sum(orders.largest_participation - means.largest_participation) as largest_residual
    from orders
    join means using (model, asset_class, strategy, minimum_duration)
    group by all
),

errors as (
    select
        model,
        strategy,
        minimum_duration,
        sqrt(sum(pow(mean_residual, 2))) as mean_residual,
        sqrt(sum(pow(largest_residual, 2))) as largest_residual
    from residuals
    group by all
)

select
    model, -- registered model the orders were run for
    asset_class, -- family of instruments: crypto or dow
    strategy, -- who sliced the order
    minimum_duration, -- first bar in which the order may be complete
    orders, -- number of parent orders, bought and sold
    mean_participation, -- child order as a fraction of its bar's volume: mean over the child orders of an order, then over orders
    if(days > 1, mean_residual / orders, null) as mean_standard_error, -- its day-clustered standard error; empty for a single day
    largest_participation, -- the largest child order of an order as a fraction of its bar's volume: mean over orders
    if(days > 1, largest_residual / orders, null) as largest_standard_error, -- its day-clustered standard error
    p95_participation, -- the largest child order of one order in twenty is more than this
    most_participation -- the largest child order of all
from means
join errors using (model, strategy, minimum_duration)
order by all
