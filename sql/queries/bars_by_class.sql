-- What the bars of each asset class are like: how many, of whom, from when to when, priced how, and what the gap ledger says of them.
with

bars as (
    select
        asset_class,
        count(*) as bars,
        count(distinct symbol) as symbols,
        min(bar_start) as first_bar,
        max(bar_start) as last_bar,
        avg(price_is_proxy::int) as proxy_share,
        string_agg(distinct venue, ', ' order by venue) as venues
    from bars.market_bars
    group by asset_class
),

faults as (
    select
        asset_class,
        count(*) filter (where kind = 'missing') as missing,
        count(distinct (symbol, bar_start)) filter (where is_masked and kind <> 'missing') as masked,
        count(*) filter (where not is_explained) as unexplained
    from quality.gap_ledger
    group by asset_class
)

select
    bars.*,
    coalesce(missing, 0) as missing,
    coalesce(masked, 0) as masked,
    coalesce(unexplained, 0) as unexplained
from bars
left join faults using (asset_class)
order by asset_class
