-- The gap ledger by asset class and kind of fault: how often, in how many symbols, one example, what is done.
select
    asset_class,
    replace(kind, '_', ' ') as kind,
    count(*) as bars,
    count(distinct symbol) as symbols,
    count(*) filter (where not is_explained) as unexplained,
    count(*) filter (where is_masked) as masked,
    arg_min(symbol || ' ' || strftime(bar_start, '%Y-%m-%d %H:%M') || ': ' || reason, (is_explained, bar_start, symbol)) as example,
    any_value(done) as done
from quality.gap_ledger
group by asset_class, kind
order by asset_class, bars desc, kind
