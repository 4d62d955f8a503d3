-- In bars judged sound, prices are positive, high is the highest and low the lowest, and volume is not negative.
select
    asset_class,
    symbol,
    bar_start,
    open,
    high,
    low,
    close,
    volume,
    case
        when open is null or high is null or low is null or close is null or volume is null
            then 'a price or the volume is missing'
        when least(open, high, low, close) <= 0 then 'a price is not positive'
        when volume < 0 then 'the volume is negative'
        when not isfinite(open + high + low + close + volume + coalesce(notional, 0) + coalesce(taker_buy_volume, 0))
            then 'a price or a volume is not a finite number'
        else 'high is not the highest price or low not the lowest'
    end || '; ask the venue again or remove the bar from the archive' as reason
from bars.market_bars
where
    fault is null
    and (
        coalesce(least(open, high, low, close) <= 0, true)
        or open is null or high is null or low is null or close is null
        or coalesce(volume < 0, true)
        or not isfinite(open + high + low + close + volume + coalesce(notional, 0) + coalesce(taker_buy_volume, 0))
        -- A vendor's split adjustment rounds each price by itself.
        or high < greatest(open, close, low) * (1 - 1e-6)
        or low > least(open, close, high) * (1 + 1e-6)
    )
