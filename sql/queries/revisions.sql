-- What an answer says differently from the bars it takes the place of: value by value, or the whole bar.
with

-- New shares that one share of the earlier bar has become on the answer's basis.
rebased as (
    select
        earlier.*,
        coalesce((
            select product(splits.split_ratio)
            from splits
            where splits.bar_start > earlier.splits_until and splits.bar_start <= answered.splits_until
        ), 1.0) as shares_per_share,
        answered
    from earlier
    inner join answered using (bar_start)
),

compared as (
    select
        symbol,
        bar_start,
        cause,
        unnest([
            {'field': 'open', 'old_value': open / shares_per_share, 'new_value': answered.open},
            {'field': 'high', 'old_value': high / shares_per_share, 'new_value': answered.high},
            {'field': 'low', 'old_value': low / shares_per_share, 'new_value': answered.low},
            {'field': 'close', 'old_value': close / shares_per_share, 'new_value': answered.close},
            {'field': 'volume', 'old_value': volume * shares_per_share, 'new_value': answered.volume},
            {'field': 'notional', 'old_value': notional, 'new_value': answered.notional},
            {'field': 'dividend', 'old_value': dividend / shares_per_share, 'new_value': answered.dividend},
            {'field': 'split_ratio', 'old_value': split_ratio, 'new_value': answered.split_ratio}
        ], recursive := true)
    from rebased
),

revisions as (
    select *
    from compared
    -- A vendor's arithmetic differs in the last digits from one day to the next.
    where old_value is distinct from new_value and coalesce(abs(new_value - old_value) > 1e-6 * abs(old_value), true)

    union all by name

    select symbol, bar_start, 'bar' as field, if(cause = 'repeated', cause, 'withdrawn') as cause
    from earlier
    where cause = 'repeated' or bar_start not in (select bar_start from answered)
)

select distinct
    $raw_table as raw_table, -- Table of the bar
    symbol, -- Instrument
    bar_start, -- Start of the bar, UTC
    field, -- Column that changed, or bar where all of it was repeated or withdrawn
    old_value, -- What it said before, on the split basis of the new value
    new_value, -- What it says now
    cause, -- restated: differs from what was stored; repeated: twice in one answer; withdrawn: no longer answered
    $seen_at as seen_at -- When this was first seen, UTC
from revisions
where not exists (
    from raw.revisions as noted
    where noted.raw_table = $raw_table
        and noted.symbol = revisions.symbol
        and noted.bar_start = revisions.bar_start
        and noted.field = revisions.field
        and noted.cause = revisions.cause
        and noted.new_value is not distinct from revisions.new_value
)
