-- No bar of a symbol is stored twice.
select
    asset_class,
    symbol,
    bar_start,
    count(*) as rows,
    'the bar is stored ' || count(*) || ' times; ingest its month again with refetch' as reason
from bars.market_bars
group by asset_class, symbol, bar_start
having count(*) > 1
