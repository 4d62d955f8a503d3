-- One row per fault of a bar: missing, repeated, silent, out of band, stale, wrong or restated; why, and what was done.
with

bars as (
    select
        market_bars.*,
        dow_bars.dividend,
        dow_bars.adjusted_close,
        fault is null or fault = 'level_shift' as has_prices,
        row_number() over by_symbol as place,
        lag(market_bars.open) over by_symbol as open_before,
        lag(market_bars.high) over by_symbol as high_before,
        lag(market_bars.low) over by_symbol as low_before,
        lag(market_bars.volume) over by_symbol as volume_before,
        lag(market_bars.venue) over by_symbol as venue_before,
        -- What a bar is measured against has prices, as where faults are judged.
        lag(case when has_prices then market_bars.close end ignore nulls) over by_symbol as close_before,
        lag(case when has_prices then dow_bars.adjusted_close / market_bars.close end ignore nulls)
            over by_symbol as adjustment_before,
        avg(case when fault is null then ln(market_bars.high / market_bars.low) end) over (
            by_symbol rows between 168 preceding and 1 preceding
        ) as usual_range
    from bars.market_bars
    left join staging.dow_bars
        on market_bars.asset_class = 'dow'
        and market_bars.symbol = dow_bars.symbol
        and market_bars.bar_start = dow_bars.bar_start
    window by_symbol as (partition by market_bars.asset_class, market_bars.symbol order by market_bars.bar_start)
),

sound as (
    select
        *,
        ln(close / close_before) as jump,
        -- How far open, high or low lie beyond both closes around them.
        ln(greatest(
            greatest(open, high) / greatest(close, close_before),
            least(close, close_before) / least(open, low)
        )) as wick,
        notional / nullif(volume, 0) as average
    from bars
    where fault is null and close_before > 0
),

-- Periods that touch are one, as a live series is asked for anew every day and each absent bar is compared with all.
asked as (
    select
        split_part(split_part(raw_table, '.', 2), '_', 1) as asset_class,
        symbol,
        min(fetched_from) as asked_from,
        max(fetched_until) as asked_until
    from (
        select
            *,
            count(nullif(begins_anew, false)) over by_symbol as stretch
        from (
            select
                *,
                coalesce(fetched_from > max(fetched_until) over (
                    by_symbol rows between unbounded preceding and 1 preceding
                ), true) as begins_anew
            from raw.fetched_periods
            window by_symbol as (partition by raw_table, symbol order by fetched_from, fetched_until)
        )
        window by_symbol as (partition by raw_table, symbol order by fetched_from, fetched_until)
    )
    group by raw_table, symbol, stretch
),

absent as (
    select
        *,
        exists (
            from asked
            where asked.asset_class = expected.asset_class
                and asked.symbol = expected.symbol
                and expected.bar_start >= asked.asked_from
                and expected.bar_start < asked.asked_until
        ) as was_asked
    from quality.expected_bars as expected
    where not is_stored
),

-- The venue went on afterwards: a source that is behind, or a month that was not fetched, is no outage.
outages as (
    select asset_class, bar_number
    from absent
    where
        asset_class = 'crypto' -- an exchange without bars in a session that its calendar knows is a vendor's fault
        and was_asked
        and not is_after_the_last
    group by all
    having count(*) > 1

    except

    select asset_class, bar_number
    from quality.expected_bars
    where is_stored
),

-- A bar put together that lacks parts with every symbol.
interrupted as (
    select asset_class, bar_number
    from bars
    where bar_number is not null
    group by all
    having count(*) > 1 and min(lacking_parts) > 0
),

missing as (
    select
        absent.asset_class,
        absent.symbol,
        absent.bar_start,
        absent.bar_number,
        'missing' as kind,
        case
            when not was_asked then 'never fetched: backfill its month'
            when outages.bar_number is not null then 'no symbol has a bar: the venue stood still'
            when is_after_the_last then 'no bar since the last one stored: delisted, renamed, or the source is behind'
            else 'the source was asked and has no such bar: ingest its month again with refetch'
        end as reason,
        'windows leave it out' as done,
        was_asked and outages.bar_number is not null as is_explained,
        true as is_masked
    from absent
    left join outages using (asset_class, bar_number)
),

faulty as (
    select
        asset_class,
        symbol,
        bar_start,
        bar_number,
        fault as kind,
        case
            when interrupted.bar_number is not null
                then 'every symbol lacks some of the bars it is put together from: the venue stood still'
            when lacking_parts > 0
                then lacking_parts || ' of the bars it is put together from are missing or faulty'
            when fault = 'incomplete' then 'a price or volume is missing or not a number'
            when fault = 'impossible' then 'prices are not positive and ordered, or the volume is negative'
            else 'the price is ' || round(close / close_before, 3)
                || ' times the one before: another unit, a split that is not stored, or a bad print'
        end as reason,
        'features and windows leave it out' as done,
        interrupted.bar_number is not null as is_explained,
        true as is_masked
    from bars
    left join interrupted using (asset_class, bar_number)
    where fault is not null
),

silent as (
    select
        asset_class, symbol, bar_start, bar_number,
        'zero_volume' as kind,
        'nothing was traded' as reason,
        'windows leave it out: nothing could be filled' as done,
        true as is_explained,
        true as is_masked
    from bars
    where fault is null and volume = 0
),

stale as (
    select
        asset_class, symbol, bar_start, bar_number,
        'stale' as kind,
        'repeats prices and volume of the bar before to the last digit' as reason,
        'windows leave it out' as done,
        false as is_explained,
        true as is_masked
    from sound
    where volume > 0
        and (open, high, low, close, volume) = (open_before, high_before, low_before, close_before, volume_before)
),

out_of_band as (
    select
        asset_class, symbol, bar_start, bar_number,
        'out_of_band' as kind,
        'the VWAP lies ' || round(1e4 * greatest(average / high - 1, 1 - average / low), 2) || ' bps outside low and high: '
        || if(is_rounded, 'the venue rounds notional to cents', 'notional and prices disagree') as reason,
        'the typical price stands in for the VWAP' as done,
        is_rounded as is_explained,
        false as is_masked
    from (
        select *, volume * greatest(average - high, low - average) <= 0.01 as is_rounded
        from sound
        where average not between low * (1 - 1e-9) and high * (1 + 1e-9)
    )
),

bad_ticks as (
    select
        asset_class, symbol, bar_start, bar_number,
        'bad_tick' as kind,
        'open, high or low lies ' || round(100 * (exp(wick) - 1), 1) || ' % beyond both closes, '
        || round(wick / usual_range, 1) || ' times the usual range' as reason,
        if(price_is_proxy, 'windows leave it out: its typical price may be wrong', 'kept: its VWAP tells what was traded')
            as done,
        not price_is_proxy as is_explained,
        price_is_proxy as is_masked
    from sound
    where wick > 0.1 and wick > 6 * usual_range
),

-- A coin may move so far in an hour; a share that does in a day is looked at by a person.
large_moves as (
    select
        asset_class, symbol, bar_start, bar_number,
        'large_move' as kind,
        'the price is ' || round(exp(jump), 3) || ' times the one before: news, or a split that is not stored' as reason,
        'kept' as done,
        false as is_explained,
        false as is_masked
    from sound
    where asset_class = 'dow' and abs(jump) > ln(1.5) and split_ratio = 1
),

-- A split that is missing, doubled or invented on some days shows as a jump by its own ratio near its date.
split_mismatches as (
    select
        sound.asset_class, sound.symbol, sound.bar_start, sound.bar_number,
        'split_mismatch' as kind,
        'the price jumps by the ratio of the split of ' || strftime(splits.bar_start, '%Y-%m-%d') || ' ('
        || round(splits.split_ratio, 4) || '): not or doubly adjusted' as reason,
        'windows leave it out' as done,
        false as is_explained,
        true as is_masked
    from bars as splits
    inner join bars as sound
        on splits.asset_class = sound.asset_class
        and splits.symbol = sound.symbol
        and abs(splits.place - sound.place) <= 20
    where splits.split_ratio <> 1
        and abs(ln(splits.split_ratio)) > 0.2
        and least(sound.close, sound.close_before) > 0
        and abs(abs(ln(sound.close / sound.close_before)) - abs(ln(splits.split_ratio)))
        < 0.15 * abs(ln(splits.split_ratio))
),

dividend_mismatches as (
    select
        asset_class, symbol, bar_start, bar_number,
        'dividend_mismatch' as kind,
        'the dividend of ' || dividend || ' should lower earlier adjusted closes by '
        || round(100 * dividend / close_before, 2) || ' %, and they are '
        || round(100 * (1 - adjustment_before / (adjusted_close / close)), 2) || ' % lower' as reason,
        'noted: no price of orders is adjusted for dividends' as done,
        false as is_explained,
        false as is_masked
    from sound
    where dividend > 0
        and abs(dividend / close_before - 1 + adjustment_before / (adjusted_close / close)) > 1e-3
),

venue_changes as (
    select
        asset_class, symbol, bar_start, bar_number,
        'venue_change' as kind,
        'from here on the bars come from ' || venue || ', before from ' || venue_before as reason,
        'marked' as done,
        true as is_explained,
        false as is_masked
    from bars
    where venue <> venue_before
),

revised as (
    select
        split_part(split_part(raw_table, '.', 2), '_', 1) as asset_class,
        symbol,
        bar_start,
        null::bigint as bar_number,
        case cause when 'repeated' then 'duplicate' else cause end as kind,
        case cause
            when 'repeated' then 'the source gave the bar twice in one answer'
            when 'withdrawn' then 'the source gave the bar once and has it no longer'
            else 'the source changed ' || string_agg(distinct field, ', ' order by field) || ' at '
                || strftime(max(seen_at), '%Y-%m-%d %H:%M')
        end as reason,
        case cause
            when 'repeated' then 'the later row counts'
            when 'withdrawn' then 'the bar stays until its month is fetched again with refetch'
            else 'the new values count, raw.revisions keeps the old'
        end as done,
        true as is_explained,
        false as is_masked
    from raw.revisions
    where field = 'bar' or cause = 'restated'
    group by raw_table, symbol, bar_start, cause
)

select
    asset_class, -- Family of instruments that trade on one clock
    symbol, -- Instrument
    bar_start, -- Start of the bar, UTC; of the source's own bar where it was repeated, restated or withdrawn
    bar_number, -- Its place on the clock, where that matters
    kind, -- missing, incomplete, impossible, level_shift, zero_volume, stale, out_of_band, bad_tick, large_move, split_mismatch, dividend_mismatch, venue_change, duplicate, restated, withdrawn
    reason, -- What is wrong, and how to mend it where that is possible
    done, -- What became of the bar
    is_explained, -- Whether the fault is a fact of the market or of the venue's ways, not a doubt about the data
    is_masked -- Whether order windows leave the bar out
from (
    from missing
    union all by name from faulty
    union all by name from silent
    union all by name from stale
    union all by name from out_of_band
    union all by name from bad_ticks
    union all by name from large_moves
    union all by name from split_mismatches
    union all by name from dividend_mismatches
    union all by name from venue_changes
    union all by name from revised
)
