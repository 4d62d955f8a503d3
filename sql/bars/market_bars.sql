-- One row per bar of every asset class: the market as all later tables see it.
select
    'crypto' as asset_class, -- Family of instruments that trade on one clock
    *
from staging.crypto_bars

union all by name

select
    'dow' as asset_class,
    * exclude (dividend, adjusted_close)
from staging.dow_bars
