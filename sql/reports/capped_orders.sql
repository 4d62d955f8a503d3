-- One row per model, strategy, participation cap and minimum duration: how large orders fare when no child order may fill more than a part of its bar's volume.

with orders as (
    select
        *,
        -- A day is a UTC day whatever the session's time zone.
        (bar_start at time zone 'UTC')::date as trading_day
    from results.capped_order_results
),

-- Buying and selling the same window, averaged, removes drift.
order_windows as (
    select
        model,
        asset_class,
        strategy,
        order_size,
        participation_cap,
        minimum_duration,
        trading_day,
        symbol,
        bar_start,
        -avg(slippage_bps) as improvement_bps,
        avg(impact_bps) as impact_bps,
        avg(filled_fraction) as filled_fraction,
        avg((filled_fraction > 0.999)::int) as filled_whole,
        avg(completion_bar) as completion_bar,
        avg(largest_participation) as largest_participation
    from orders
    group by all
),

means as (
    select
        model,
        asset_class,
        strategy,
        order_size,
        participation_cap,
        minimum_duration,
        count(*) as order_windows,
        avg(improvement_bps) as mean_improvement_bps,
        avg(impact_bps) as mean_impact_bps,
        avg(filled_fraction) as mean_filled_fraction,
        avg(filled_whole) as share_filled,
        avg(completion_bar) as mean_completion_bar,
        avg(largest_participation) as mean_largest_participation
    from order_windows
    group by all
),

-- Assets move together, so the windows of one day count as one observation.
residuals as (
    select
        model,
        strategy,
        participation_cap,
        minimum_duration,
        trading_day,
        sum(improvement_bps - mean_improvement_bps) as improvement,
        sum(impact_bps - mean_impact_bps) as impact,
        sum(filled_fraction - mean_filled_fraction) as filled,
        sum(filled_whole - share_filled) as whole,
        sum(completion_bar - mean_completion_bar) as completion,
        sum(largest_participation - mean_largest_participation) as participation
    from order_windows
    join means using (model, asset_class, strategy, order_size, participation_cap, minimum_duration)
    group by all
),

errors as (
    select
        model,
        strategy,
        participation_cap,
        minimum_duration,
        -- A single day leaves no residual: its error is unknown, not zero.
        if(count(*) > 1, sqrt(sum(pow(improvement, 2))), null) as improvement,
        if(count(*) > 1, sqrt(sum(pow(impact, 2))), null) as impact,
        if(count(*) > 1, sqrt(sum(pow(filled, 2))), null) as filled,
        if(count(*) > 1, sqrt(sum(pow(whole, 2))), null) as whole,
        if(count(*) > 1, sqrt(sum(pow(completion, 2))), null) as completion,
        if(count(*) > 1, sqrt(sum(pow(participation, 2))), null) as participation
    from residuals
    group by all
)

select
    model, -- registered model the orders were run for
    asset_class, -- family of instruments: crypto or dow
    strategy, -- who sliced the order
    order_size, -- parent order as a fraction of a day's expected volume
    participation_cap, -- greatest fraction of a bar's volume that a child order fills
    minimum_duration, -- first bar in which the order may be complete
    order_windows, -- order windows, each bought and sold
    mean_improvement_bps, -- side-averaged improvement on VWAP of what was filled; positive is good
    improvement / order_windows as standard_error_bps, -- its day-clustered standard error; empty for a single day
    mean_impact_bps, -- square-root impact of what was filled
    impact / order_windows as impact_standard_error_bps, -- its day-clustered standard error
    mean_filled_fraction, -- part of the parent order that was filled
    filled / order_windows as filled_fraction_standard_error, -- its day-clustered standard error
    share_filled, -- share of orders filled whole
    whole / order_windows as share_filled_standard_error, -- its day-clustered standard error
    mean_completion_bar, -- mean bar in which the order ended, counted from 1
    completion / order_windows as completion_bar_standard_error, -- its day-clustered standard error
    mean_largest_participation, -- mean over orders of the largest child order as a fraction of its bar's volume
    participation / order_windows as largest_participation_standard_error -- its day-clustered standard error
from means
join errors using (model, strategy, participation_cap, minimum_duration)
order by all
