-- How many orders of each model, strategy and minimum duration complete in each bar: their share, with its day-clustered standard error.
with

days as (
    select
        model,
        strategy,
        minimum_duration,
        completion_bar,
        -- A day is a UTC day whatever the session's time zone.
        (bar_start at time zone 'UTC')::date as trading_day,
        count(*) as orders
    from results.order_results
    group by all
),

day_totals as (
    select
        model,
        strategy,
        minimum_duration,
        trading_day,
        sum(orders) as day_orders
    from days
    group by all
),

totals as (
    select
        model,
        strategy,
        minimum_duration,
        count(*) as days,
        sum(day_orders) as all_orders,
        sum(pow(day_orders, 2)) as squares
    from day_totals
    group by all
),

shares as (
    select
        model,
        strategy,
        minimum_duration,
        completion_bar,
        sum(orders) as orders,
        sum(orders) / any_value(all_orders) as share,
        -- The sum over all days, those without such an order too, of (orders − share · orders of the day)².
        sum(pow(orders, 2)) - 2 * share * sum(orders * day_orders) + pow(share, 2) * any_value(squares) as residual,
        any_value(all_orders) as all_orders,
        any_value(days) as days
    from days
    inner join day_totals using (model, strategy, minimum_duration, trading_day)
    inner join totals using (model, strategy, minimum_duration)
    group by model, strategy, minimum_duration, completion_bar
)

select
    model,
    strategy,
    minimum_duration,
    completion_bar,
    orders::bigint as orders,
    share,
    if(days > 1, sqrt(greatest(residual, 0)) / all_orders, null) as standard_error
from shares
order by all
