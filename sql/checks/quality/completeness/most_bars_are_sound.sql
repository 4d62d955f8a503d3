-- Of the bars that a symbol must have up to its last one, at least 95 % are stored and without doubt.
select
    asset_class,
    symbol,
    sum(expected - after_the_last) as expected,
    sum(stored - masked) as sound,
    'only ' || sum(stored - masked) || ' of ' || sum(expected - after_the_last) || ' bars can be relied on; '
    || 'see quality.gap_ledger for the reasons, then fetch its months again or drop the instrument' as reason
from quality.completeness
group by asset_class, symbol
having sum(stored - masked) < 0.95 * sum(expected - after_the_last)
