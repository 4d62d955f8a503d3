-- The latest 1,500 bars of the two longest series of each asset class.
with

ranked as (
    select
        asset_class,
        symbol,
        row_number() over (partition by asset_class order by count(*) desc, symbol) as place
    from bars.market_bars
    group by asset_class, symbol
)

select market_bars.*
from bars.market_bars
inner join ranked using (asset_class, symbol)
where place <= 2 and bar_number is not null
qualify row_number() over (partition by asset_class, symbol order by bar_number desc) <= 1500
