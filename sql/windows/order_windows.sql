-- One row per order window: the first bar of a parent order whose bars are unbroken, beyond doubt and in one split.
with

features as (
    select * from features.bar_features
),

members as (
    -- A series may be called as it was at the time, unless another company's carries that name today.
    select
        unnest([symbol, if(symbol is null, null, ticker)]) as symbol,
        member_from,
        coalesce(member_until, 'infinity'::date) as member_until
    from raw.dow_members
),

masked as (
    select distinct asset_class, symbol, bar_start
    from quality.gap_ledger
    where is_masked
),

runs as (
    select
        asset_class,
        symbol,
        bar_start,
        bar_number,
        -- The first row of the lookback needs history of its own, or its features rest on a handful of bars.
        history_bars >= 48 + $lookback - 1
        and count(*) over following = $horizon
        and count(*) filter (where features.is_complete and masked.symbol is null) over span
        = $lookback + $horizon - 1 as is_whole
    from features
    left join masked using (asset_class, symbol, bar_start)
    window
        following as (
            partition by asset_class, symbol, segment order by bar_number
            rows between current row and $horizon - 1 following
        ),
        span as (
            partition by asset_class, symbol, segment order by bar_number
            rows between $lookback - 1 preceding and $horizon - 1 following
        )
),

cuts as (
    select
        asset_class,
        min(bar_number) + $train * (max(bar_number) - min(bar_number)) as validation_from,
        min(bar_number) + ($train + $validation) * (max(bar_number) - min(bar_number)) as test_from
    from features
    group by asset_class
),

splits as (
    select
        asset_class,
        symbol,
        bar_start,
        bar_number,
        bar_number - $lookback + 1 as first_bar,
        bar_number + $horizon - 1 as last_bar,
        validation_from,
        test_from,
        list_contains($unseen_symbols, symbol) as is_unseen_symbol
    from runs
    inner join cuts using (asset_class)
    where
        is_whole
        and (
            asset_class <> 'dow'
            or not $dow_members_only
            -- A name that joined the index later would not have been in anyone's universe yet.
            or exists (
                from members
                where members.symbol = runs.symbol and bar_start >= member_from and bar_start < member_until
            )
        )
)

select
    asset_class, -- Family of instruments that trade on one clock
    symbol, -- Instrument
    bar_start, -- Start of the order's first bar, UTC
    bar_number, -- Its place on the clock
    is_unseen_symbol, -- True where no model is trained or validated on the instrument
    case
        when first_bar >= test_from then 'test'
        when is_unseen_symbol then null
        when last_bar < validation_from then 'train'
        when first_bar >= validation_from and last_bar < test_from then 'validation'
    end as split -- train, validation or test, the hold-out; no bar of a window lies in another split
from splits
where split is not null
