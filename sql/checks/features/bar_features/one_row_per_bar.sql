-- Every bar has one row of features.
select
    asset_class,
    symbol,
    bar_start,
    'the bar has ' || count(*) || ' rows of features' as reason
from features.bar_features
group by asset_class, symbol, bar_start
having count(*) > 1
