-- One row per model, minimum duration and group of order windows: what the model gains over stopping without forecasts, by symbol, year, session, volatility and liquidity, and apart for symbols that no model was trained on.

with orders as (
    select *
    from results.order_results
    where benchmark = 'VWAP' and target = 'quantity' and strategy in ('LEM', 'no-forecast stopping')
),

-- Buying and selling the same window, averaged and paired, removes drift and most of the market.
order_windows as (
    select
        model,
        asset_class,
        symbol,
        bar_start,
        minimum_duration,
        any_value(volatility_bps) as volatility_bps,
        avg(slippage_bps) filter (where strategy = 'no-forecast stopping')
        - avg(slippage_bps) filter (where strategy = 'LEM') as edge_bps
    from orders
    group by all
),

features as (
    select asset_class, symbol, bar_start, expected_volume * close as expected_notional
    from features.bar_features
),

unseen as (
    select
        asset_class,
        symbol,
        bar_start,
        is_unseen_symbol,
        bool_or(is_unseen_symbol) over (partition by asset_class) as any_unseen
    from windows.order_windows
    where split = 'test'
),

traits as (
    select
        order_windows.*,
        if(any_unseen, if(is_unseen_symbol, 'unseen in training', 'seen in training'), null) as symbols,
        -- A day is a UTC day whatever the session's time zone.
        bar_start at time zone 'UTC' as starts_at,
        ntile(3) over (partition by model, minimum_duration order by volatility_bps) as volatility_third,
        ntile(3) over (partition by model, minimum_duration order by expected_notional) as notional_third
    from order_windows
    left join features using (asset_class, symbol, bar_start)
    left join unseen using (asset_class, symbol, bar_start)
),

grouped as (
    select
        model,
        asset_class,
        minimum_duration,
        starts_at::date as trading_day,
        edge_bps,
        unnest([
            {'trait': 'symbols', 'value': symbols},
            {'trait': 'symbol', 'value': symbol},
            {'trait': 'year', 'value': year(starts_at)::varchar},
            {'trait': 'volatility', 'value': ['1 calm', '2 usual', '3 wild'][volatility_third]},
            {'trait': 'liquidity', 'value': ['1 thin', '2 middling', '3 deep'][notional_third]},
            {'trait': 'session', 'value': case
                when asset_class = 'dow' then dayname(starts_at)
                when hour(starts_at) < 7 then 'Asia, 00 to 07 UTC'
                when hour(starts_at) < 13 then 'Europe, 07 to 13 UTC'
                when hour(starts_at) < 21 then 'America, 13 to 21 UTC'
                else 'late, 21 to 24 UTC'
            end}
        ], recursive := true)
    from traits
),

means as (
    select
        model,
        asset_class,
        minimum_duration,
        trait,
        value,
        count(*) as order_windows,
        count(distinct trading_day) as days,
        avg(edge_bps) as mean_edge_bps
    from grouped
    -- Where every symbol was trained on, there is nothing to tell apart.
    where value is not null
    group by all
),

residuals as (
    select
        model,
        minimum_duration,
        trait,
        value,
        trading_day,
        sum(edge_bps - mean_edge_bps) as residual
    from grouped
    join means using (model, asset_class, minimum_duration, trait, value)
    group by all
),

errors as (
    select
        model,
        minimum_duration,
        trait,
        value,
        sqrt(sum(pow(residual, 2))) as residual_bps
    from residuals
    group by all
)

select
    model, -- registered model the orders were run for
    asset_class, -- family of instruments: crypto or dow
    minimum_duration, -- first bar in which the order may be complete
    trait, -- what the order windows are grouped by: symbol, year, session, volatility or liquidity known at the start, symbols seen or unseen in training
    value, -- the group
    order_windows, -- order windows in the group, each bought and sold
    mean_edge_bps, -- side-averaged gain over stopping without forecasts, paired; positive is good
    if(days > 1, residual_bps / order_windows, null) as standard_error_bps -- its day-clustered standard error; empty for a single day
from means
join errors using (model, minimum_duration, trait, value)
order by all
