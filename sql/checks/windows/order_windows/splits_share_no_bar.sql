-- Training, validation and test windows have no bar in common, lookback and horizon included.
with

spans as (
    select
        asset_class,
        split,
        min(bar_number) - $lookback + 1 as first_bar,
        max(bar_number) + $horizon - 1 as last_bar
    from windows.order_windows
    group by asset_class, split
)

select
    earlier.asset_class,
    earlier.split,
    later.split as overlaps,
    'the last bar of ' || earlier.split || ' lies in a window of ' || later.split as reason
from spans as earlier
inner join spans as later
    on earlier.asset_class = later.asset_class
    and earlier.split <> later.split
    and later.first_bar between earlier.first_bar and earlier.last_bar
