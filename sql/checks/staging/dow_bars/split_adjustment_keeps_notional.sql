-- Adjusting a bar for splits changes neither what it was worth nor its dividend yield: price × volume stays.
select
    'dow' as asset_class,
    adjusted.symbol,
    adjusted.bar_start,
    raw.close * raw.volume as notional_as_given,
    adjusted.close * adjusted.volume as notional_adjusted,
    'split adjustment changes the notional of the bar; its factors for price and volume must cancel' as reason
from staging.dow_bars as adjusted
inner join raw.dow_bars as raw using (symbol, bar_start)
where
    isfinite(raw.close * raw.volume) -- or the bar is incomplete, which is no fault of the adjustment
    and abs(adjusted.close * adjusted.volume - raw.close * raw.volume) > 1e-9 * abs(raw.close * raw.volume)
    or abs(adjusted.dividend * raw.close - raw.dividend * adjusted.close) > 1e-9 * abs(raw.dividend * adjusted.close)
