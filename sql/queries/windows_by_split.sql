-- How many order windows each split of each asset class holds, of whom, and when they begin.
select
    asset_class,
    split,
    count(*) as order_windows,
    count(distinct symbol) as symbols,
    min(bar_start) as first_start,
    max(bar_start) as last_start
from windows.order_windows
group by asset_class, split
order by asset_class, first_start
