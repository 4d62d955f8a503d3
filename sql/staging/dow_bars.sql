-- One row per Dow session: typed, numbered on the exchange calendar, adjusted for splits.
with

bars as (
    select * from raw.dow_bars
),

sessions as (
    select * from raw.nyse_sessions
),

splits as (
    select symbol, bar_start as ex_date, split_ratio
    from bars
    where split_ratio <> 1
),

factors as (
    select
        *,
        -- New shares that one share of this row has become by the last stored date.
        coalesce((
            select product(splits.split_ratio)
            from splits
            where splits.symbol = bars.symbol and splits.ex_date > bars.splits_until
        ), 1.0) as shares_per_share
    from bars
)

select
    factors.symbol, -- Ticker
    factors.bar_start, -- Midnight UTC of the session's date
    coalesce(sessions.closes_at, factors.bar_start + interval 1 day) as bar_end, -- Close of the session, UTC
    sessions.session_number::bigint as bar_number, -- Sessions since 2000; null where the exchange was closed
    extract('isodow' from factors.bar_start)::integer as season, -- Day of the week
    factors.open / shares_per_share as open, -- First price, split-adjusted
    factors.high / shares_per_share as high, -- Highest price, split-adjusted
    factors.low / shares_per_share as low, -- Lowest price, split-adjusted
    factors.close / shares_per_share as close, -- Last price, split-adjusted
    factors.volume * shares_per_share as volume, -- Shares traded, split-adjusted
    notional, -- US dollars traded, which no split changes; null where the vendor does not say
    trade_count, -- Number of trades
    taker_buy_volume * shares_per_share as taker_buy_volume, -- Shares bought by takers, split-adjusted
    dividend / shares_per_share as dividend, -- Cash per share on the ex-date, split-adjusted
    split_ratio, -- New shares per old share on the ex-date
    adjusted_close, -- Close as the vendor adjusts it for splits and dividends
    venue -- Where the bar comes from
from factors
left join sessions on factors.bar_start = sessions.bar_start
