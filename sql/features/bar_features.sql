-- One row per bar: what is known before the bar (bars up to the one before it, and the calendar), and what its orders meet.
with

-- A number for two names, as every window below sorts by it. A season is a week.
series as (
    select
        *,
        row_number() over (order by asset_class, symbol)::integer as series,
        case asset_class when 'crypto' then 10080 // $crypto_bar_minutes else 5 end as season_length
    from (select distinct asset_class, symbol from bars.market_bars)
),

-- No column that nothing needs, as every window below carries them along.
bars as (
    select
        series,
        season_length,
        bar_start,
        bar_number,
        season,
        price,
        close,
        volume,
        high / low as high_over_low,
        taker_buy_volume / volume as taker_share,
        case when trade_count > 0 then volume / trade_count end as units_per_trade,
        split_ratio,
        coalesce(volume > 0 and low > 0, false) as is_sound
    from bars.market_bars
    inner join series using (asset_class, symbol)
    -- A bar with a fault is as good as missing.
    where bar_number is not null and fault is null
),

-- History starts anew after a gap, a split, or a bar in which nothing could be traded.
breaks as (
    select
        * exclude (split_ratio),
        lag(close) over by_symbol as close_before,
        coalesce(
            not is_sound
            or split_ratio <> 1
            or bar_number <> 1 + lag(bar_number) over by_symbol
            or not lag(is_sound) over by_symbol,
            false
        ) as is_break
    from bars
    window by_symbol as (partition by series order by bar_number)
),

-- DuckDB counts anew for each bar where a count has a filter, hence the nullif.
segments as (
    select
        * exclude (season, season_length, close_before, is_break),
        case when not is_break then ln(close / close_before) end as log_return,
        count(nullif(is_break, false)) over (partition by series order by bar_number) as segment,
        nullif(avg(volume) over (
            partition by series, season order by bar_number
            range between 26 * season_length preceding and $horizon preceding
        ), 0) as expected_volume
    from breaks
),

-- What each bar's own segment has seen up to its close.
histories as (
    select
        * exclude (is_sound),
        row_number() over by_segment - 1 as history_bars,
        lag(close, 4) over by_segment as close_4_before,
        lag(close, 24) over by_segment as close_24_before,
        stddev_samp(log_return) over (
            by_segment rows between 167 preceding and current row
        ) as volatility_after,
        stddev_samp(log_return) over (
            by_segment rows between 23 preceding and current row
        ) as recent_volatility_after,
        avg(volume) over (by_segment rows between 11 preceding and current row) as recent_volume_after,
        avg(volume) over (by_segment rows between 167 preceding and current row) as volume_after,
        avg(units_per_trade) over (by_segment rows between 167 preceding and current row) as units_per_trade_after
    from segments
    where is_sound
    window by_segment as (partition by series, segment order by bar_number)
),

-- Facts of each bar, known once it has closed.
facts as (
    select
        *,
        log_return / nullif(volatility_after, 0) as return_1,
        ln(close / close_4_before) / nullif(2 * volatility_after, 0) as return_4,
        ln(close / close_24_before) / nullif(sqrt(24) * volatility_after, 0) as return_24,
        ln(close / price) / nullif(volatility_after, 0) as close_over_price,
        ln(high_over_low) / nullif(volatility_after, 0) as bar_range,
        ln(volume / expected_volume) as volume_surprise,
        ln(recent_volume_after / volume_after) as volume_trend,
        ln(nullif(recent_volatility_after, 0) / nullif(volatility_after, 0)) as volatility_trend,
        coalesce(2 * taker_share - 1, 0) as taker_imbalance,
        coalesce(ln(units_per_trade / units_per_trade_after), 0) as trade_size
    from histories
),

-- Means of decimals, whose sum comes out the same to the last digit in whatever order.
market as (
    select
        asset_class,
        bar_number,
        avg(return_1::decimal(38, 18)) as market_return,
        avg(volume_surprise::decimal(38, 18)) as market_volume_surprise
    from facts
    inner join series using (series)
    group by all
)

select
    asset_class, -- Family of instruments that trade on one clock
    symbol, -- Instrument
    bar_start, -- Start of the bar, UTC
    bar_number, -- Place on the clock; consecutive bars differ by one
    segment, -- Unbroken run of bars this bar belongs to
    history_bars, -- Bars before this one in its run
    price, -- Market: average price of this bar, at which child orders fill
    close, -- Market: last price of this bar
    volume, -- Market: units traded in this bar
    lag(volatility_after) over by_segment as volatility, -- Known before: standard deviation of the last 168 log returns
    expected_volume, -- Known a horizon before: mean volume of the same season over 26 weeks
    lag(return_1) over by_segment as return_1, -- Feature: last log return, in standard deviations
    lag(return_4) over by_segment as return_4, -- Feature: log return of the last 4 bars, in standard deviations
    lag(return_24) over by_segment as return_24, -- Feature: log return of the last 24 bars, in standard deviations
    lag(close_over_price) over by_segment as close_over_price, -- Feature: last close over its bar's average price, in standard deviations
    lag(bar_range) over by_segment as bar_range, -- Feature: last high over low, in standard deviations
    lag(volume_surprise) over by_segment as volume_surprise, -- Feature: log of last volume over its seasonal expectation
    lag(volume_trend) over by_segment as volume_trend, -- Feature: log of mean volume of 12 bars over 168
    lag(volatility_trend) over by_segment as volatility_trend, -- Feature: log of volatility of 24 bars over 168
    lag(taker_imbalance) over by_segment as taker_imbalance, -- Feature: buying minus selling takers, as a share of last volume
    lag(trade_size) over by_segment as trade_size, -- Feature: log of last units per trade over their mean of 168 bars; 0 where no trades are counted
    lag(market_return) over by_segment as market_return, -- Feature: mean of return_1 over the asset class
    lag(market_volume_surprise) over by_segment as market_volume_surprise, -- Feature: mean of volume_surprise over the asset class
    ln(expected_volume / avg(expected_volume) over (by_segment rows between 167 preceding and current row))
        as season_volume, -- Feature: log of this bar's seasonal volume over its trailing mean
    sin(2 * pi() * (extract('hour' from bar_start) + extract('minute' from bar_start) / 60) / 24)
        as hour_sin, -- Feature: hour of the day, sine
    cos(2 * pi() * (extract('hour' from bar_start) + extract('minute' from bar_start) / 60) / 24)
        as hour_cos, -- Feature: hour of the day, cosine
    sin(2 * pi() * extract('isodow' from bar_start) / 7) as weekday_sin, -- Feature: day of the week, sine
    cos(2 * pi() * extract('isodow' from bar_start) / 7) as weekday_cos, -- Feature: day of the week, cosine
    season_volume is not null
    and lag(
        return_1 + return_4 + return_24 + close_over_price + bar_range + volume_surprise + volume_trend
        + volatility_trend + market_return + market_volume_surprise
    ) over by_segment is not null as is_complete -- True where no feature is null
from facts
inner join series using (series)
inner join market using (asset_class, bar_number)
window by_segment as (partition by series, segment order by bar_number)
