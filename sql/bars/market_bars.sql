-- One row per bar of every asset class: the market as all later tables see it, and what is wrong with a bar, if anything.
with

bars as (
    select
        'crypto' as asset_class,
        *
    from staging.crypto_bars

    union all by name

    select
        'dow' as asset_class,
        * exclude (dividend, adjusted_close),
        (high + low + close) / 3 as typical_price,
        0 as lacking_parts
    from staging.dow_bars
),

-- A comparison with a price that is null or not a number is no disorder: such a bar is incomplete.
looked_at as (
    select
        *,
        coalesce(
            isfinite(open + high + low + close + volume + coalesce(notional, 0) + coalesce(taker_buy_volume, 0)), false
        ) as is_complete,
        least(open, high, low, close) <= 0
        or volume < 0
        or coalesce(notional, 0) < 0
        -- A vendor's split adjustment rounds each price by itself.
        or high < greatest(open, close, low) * (1 - 1e-6)
        or low > least(open, close, high) * (1 + 1e-6) as is_impossible
    from bars
),

-- Judged by earlier bars alone, as features are made of whatever is judged to be sound.
judged as (
    select
        *,
        case
            when not is_complete or lacking_parts > 0 then 'incomplete'
            when is_impossible then 'impossible'
            when close / close_before not between 1 / 3 and 3 then 'level_shift'
        end as fault,
        notional / nullif(volume, 0) between low * (1 - 1e-9) and high * (1 + 1e-9) as is_vwap_in_band,
        list_contains($typically_priced, asset_class) as is_typically_priced
    from (
        select
            *,
            lag(case when is_complete and not is_impossible and lacking_parts = 0 then close end ignore nulls) over (
                partition by asset_class, symbol order by bar_start
            ) as close_before
        from looked_at
    )
)

select
    asset_class, -- Family of instruments that trade on one clock
    * exclude (
        asset_class, is_complete, is_impossible, close_before, is_vwap_in_band, is_typically_priced, fault, notional,
        typical_price, lacking_parts
    ),
    coalesce(notional, volume * typical_price) as notional, -- Quote currency traded; an estimate where the venue gives none
    typical_price, -- Mean of high, low and close; of a bar put together, of its parts, weighted by volume
    case when is_vwap_in_band then notional / volume end as vwap, -- Average price of all trades; null where the venue gives none or one outside the bar
    if(is_typically_priced, typical_price, coalesce(vwap, typical_price)) as price, -- VWAP, or typical price where there is none or the settings ask for it
    vwap is null or is_typically_priced as price_is_proxy, -- True where price is the typical price
    lacking_parts, -- Bars of the source that are missing or faulty in a bar put together
    fault -- Why the bar takes part in nothing: incomplete, impossible, level_shift; null where it is sound
from judged
