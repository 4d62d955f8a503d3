-- One row per crypto bar of the market: what its venue gave, put together to the length that the settings ask for and numbered on that clock.
with

given as (
    select
        *,
        -- Bars of any length begin with the epoch; one that does not fall on its clock stands for itself.
        case
            when epoch_us(bar_start) % (60_000_000::bigint * $crypto_source_bar_minutes) = 0
                then epoch_us(bar_start) // (60_000_000::bigint * $crypto_bar_minutes)
        end as bar_number,
        (high + low + close) / 3 as typical_price,
        -- A comparison with a price that is null or not a number is no disorder.
        coalesce(
            isfinite(open + high + low + close + volume + coalesce(notional, 0) + coalesce(taker_buy_volume, 0)), false
        )
        and least(open, high, low, close) > 0
        and least(volume, coalesce(notional, 0)) >= 0
        and high >= greatest(open, close, low) * (1 - 1e-6)
        and low <= least(open, close, high) * (1 + 1e-6) as is_ordered
    from raw.crypto_bars
),

-- Judged by earlier bars alone, as whole bars are in bars.market_bars.
judged as (
    select
        *,
        row_number() over (partition by symbol, bar_start) as copy,
        is_ordered and coalesce(
            close / lag(case when is_ordered then close end ignore nulls) over by_symbol between 1 / 3 and 3, true
        ) as is_sound,
        -- Notional that contradicts the prices by more than its rounding to cents tells no average price.
        case
            when notional between volume * low - 0.01 and volume * high + 0.01 then notional
        end as credible_notional,
        min(bar_start) over (partition by symbol) as series_from,
        max(bar_start) over (partition by symbol) + to_minutes($crypto_source_bar_minutes) as series_until
    from given
    window by_symbol as (partition by symbol order by bar_start)
),

-- Sums in the order of time, as those in any order differ in their last digits from one run to the next.
put_together as (
    select
        symbol,
        bar_number,
        coalesce(to_timestamp(bar_number * 60 * $crypto_bar_minutes), any_value(bar_start)) as bar_start,
        arg_min(open, bar_start) as open,
        max(high) as high,
        min(low) as low,
        arg_max(close, bar_start) as close,
        sum(volume order by bar_start) as volume,
        if(
            count(*) = 1, any_value(notional),
            case when count(credible_notional) = count(*) then sum(credible_notional order by bar_start) end
        ) as notional,
        if(
            count(*) = 1, any_value(typical_price),
            coalesce(
                sum(typical_price * volume order by bar_start) / nullif(sum(volume order by bar_start), 0),
                avg(typical_price order by bar_start)
            )
        ) as typical_price,
        case when count(trade_count) = count(*) then sum(trade_count)::bigint end as trade_count,
        case when count(taker_buy_volume) = count(*) then sum(taker_buy_volume order by bar_start) end
            as taker_buy_volume,
        product(split_ratio order by bar_start) as split_ratio,
        arg_max(venue, bar_start) as venue,
        count(*) filter (where is_sound) as sound_parts,
        any_value(series_from) as series_from,
        any_value(series_until) as series_until
    from judged
    group by symbol, bar_number, if(bar_number is null, bar_start, null), copy
)

select
    symbol, -- Instrument in exchange notation, base/quote
    bar_start, -- Start of the bar, UTC; the bar covers [bar_start, bar_end)
    bar_start + to_minutes($crypto_bar_minutes) as bar_end, -- End of the bar, UTC
    bar_number, -- Bars since 1970; consecutive bars differ by one; null where the bar is off its clock
    -- The week in as many parts as it holds whole bars, so that one at least begins in each; Monday's first is a day's worth.
    (
        (1440 * (extract('isodow' from bar_start) - 1) + 60 * extract('hour' from bar_start) + extract('minute' from bar_start))
        * (10080 // $crypto_bar_minutes) // 10080 + 1440 // $crypto_bar_minutes
    )::integer as season, -- Place in the week: the hour where bars last one
    open, -- First price
    high, -- Highest price
    low, -- Lowest price
    close, -- Last price
    volume, -- Units traded
    notional, -- Quote currency traded; null where the venue does not say, or not of the whole bar
    typical_price, -- Mean of high, low and close; of a bar put together, of its parts, weighted by volume
    trade_count, -- Number of trades
    taker_buy_volume, -- Units bought by takers
    split_ratio, -- New units per old unit on the first bar after a split
    venue, -- Where the bar comes from
    -- A bar that its venue gave whole is judged in bars.market_bars.
    if(
        $crypto_bar_minutes = $crypto_source_bar_minutes, 0,
        $crypto_bar_minutes // $crypto_source_bar_minutes - sound_parts
    ) as lacking_parts -- Bars of the source that are missing or faulty in a bar put together
from put_together
-- Nobody asked for the rest of a bar in which the series begins or ends so far.
where
    bar_number is null
    or bar_start >= series_from and bar_start + to_minutes($crypto_bar_minutes) <= series_until
