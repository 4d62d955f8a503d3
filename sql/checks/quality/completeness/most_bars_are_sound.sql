-- Of the bars that a market must have, each symbol up to its last one, at least 95 % are stored and without doubt.
select
    asset_class,
    sum(expected - after_the_last) as expected,
    sum(stored - masked) as sound,
    'only ' || sum(stored - masked) || ' of ' || sum(expected - after_the_last) || ' bars can be relied on; '
    || 'see quality.gap_ledger for the reasons, then fetch their months again' as reason
from quality.completeness
group by asset_class
having sum(stored - masked) < 0.95 * sum(expected - after_the_last)
