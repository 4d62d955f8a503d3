-- One row per walk-forward fold and order window: trained on all that came before, tested on the next stretch, and never on the hold-out.
with

development as (
    select
        asset_class,
        symbol,
        bar_start,
        bar_number,
        bar_number - $lookback + 1 as first_bar,
        bar_number + $horizon - 1 as last_bar
    from windows.order_windows
    where split <> 'test'
),

spans as (
    select
        asset_class,
        min(first_bar) as starts_at,
        max(last_bar) + 1 as ends_at
    from development
    group by asset_class
),

-- The first half trains all folds; the second is tested on, one stretch after the other.
stretches as (
    select
        asset_class,
        starts_at,
        fold,
        starts_at + (0.5 + 0.5 * (fold - 1) / $folds) * (ends_at - starts_at) as test_from,
        starts_at + (0.5 + 0.5 * fold / $folds) * (ends_at - starts_at) as test_until
    from spans
    cross join range(1, $folds + 1) as folds (fold)
),

cuts as (
    select
        *,
        starts_at + $train / ($train + $validation) * (test_from - starts_at) as validation_from
    from stretches
),

splits as (
    select
        *,
        case
            when last_bar < validation_from then 'train'
            when first_bar >= validation_from and last_bar < test_from then 'validation'
            when first_bar >= test_from and last_bar < test_until then 'test'
        end as split
    from development
    inner join cuts using (asset_class)
)

select
    fold::integer as fold, -- Which stretch is tested on, counted from 1
    asset_class, -- Family of instruments that trade on one clock
    symbol, -- Instrument
    bar_start, -- Start of the order's first bar, UTC
    bar_number, -- Its place on the clock
    split -- train, validation or test; no bar of a window lies in another split of its fold
from splits
where split is not null
