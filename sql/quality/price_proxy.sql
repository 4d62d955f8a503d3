-- One row per symbol: how many of its bars are priced by a proxy, and how far off the proxy is where the true average price is known.
with

bars as (
    select
        *,
        stddev_samp(log_return) over (
            partition by asset_class, symbol order by bar_number rows between 168 preceding and 1 preceding
        ) as volatility
    from (
        select
            *,
            ln(close / lag(close) over (partition by asset_class, symbol order by bar_number)) as log_return
        from bars.market_bars
        where fault is null and bar_number is not null and volume > 0
    )
),

errors as (
    select
        asset_class,
        symbol,
        price_is_proxy,
        typical_price / vwap - 1 as error,
        error / nullif(volatility, 0) as error_in_sigma
    from bars
)

select
    asset_class, -- Family of instruments that trade on one clock
    symbol, -- Instrument
    count(*) as bars, -- Sound bars in which something was traded
    avg(price_is_proxy::int) as proxy_share, -- Share of them whose orders fill at the typical price
    count(error) as bars_with_vwap, -- Those whose true average price is known
    1e4 * avg(error) as mean_error_bps, -- Mean of the typical price over the VWAP, less one
    1e4 * sqrt(avg(error ** 2)) as rms_error_bps, -- Its root mean square
    avg(error_in_sigma) as mean_error_sigma, -- The mean in volatilities of one bar, of the 168 before it
    sqrt(avg(error_in_sigma ** 2)) as rms_error_sigma -- The root mean square in the same units
from errors
group by asset_class, symbol
order by asset_class, symbol
