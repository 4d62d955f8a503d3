-- Within a fold, training, validation and test windows have no bar in common and follow each other; no fold reaches the hold-out.
with

spans as (
    select
        fold,
        asset_class,
        split,
        min(bar_number) - $lookback + 1 as first_bar,
        max(bar_number) + $horizon - 1 as last_bar
    from windows.walk_forward
    group by all

    union all

    select
        fold,
        asset_class,
        'hold-out',
        min(bar_number) - $lookback + 1,
        null
    from windows.order_windows
    cross join (select distinct fold from windows.walk_forward)
    where split = 'test'
    group by all
)

select
    earlier.fold,
    earlier.asset_class,
    earlier.split,
    later.split as overlaps,
    'fold ' || earlier.fold || ': the last bar of ' || earlier.split || ' is not before the first bar of ' || later.split
        as reason
from spans as earlier
inner join spans as later
    on earlier.fold = later.fold
    and earlier.asset_class = later.asset_class
    and (earlier.split, later.split) in (
        ('train', 'validation'), ('validation', 'test'), ('train', 'test'), ('test', 'hold-out')
    )
where earlier.last_bar >= later.first_bar
