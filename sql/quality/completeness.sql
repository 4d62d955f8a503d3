-- One row per symbol and month: how many bars must exist, how many do, and how many of those can be relied on.
with

months as (
    select
        asset_class,
        symbol,
        date_trunc('month', bar_start)::date as month,
        count(*) as expected,
        count(*) filter (where is_stored) as stored,
        count(*) filter (where not is_stored and is_after_the_last) as after_the_last
    from quality.expected_bars
    group by all
),

faults as (
    select
        asset_class,
        symbol,
        date_trunc('month', bar_start)::date as month,
        count(distinct bar_start) filter (where is_masked and kind <> 'missing') as masked,
        count(distinct bar_start) filter (where kind = 'missing' and not is_explained) as unexplained_gaps,
        count(*) as ledger_rows
    from quality.gap_ledger
    group by all
)

select
    months.asset_class, -- Family of instruments that trade on one clock
    months.symbol, -- Instrument
    months.month, -- First day of the month
    months.expected, -- Bars that must exist
    months.stored, -- Bars that are stored
    months.after_the_last, -- Missing bars that no later bar follows
    coalesce(faults.masked, 0) as masked, -- Stored bars that order windows leave out
    coalesce(faults.unexplained_gaps, 0) as unexplained_gaps, -- Missing bars that no outage explains
    coalesce(faults.ledger_rows, 0) as ledger_rows, -- Faults of any kind
    (months.stored - coalesce(faults.masked, 0)) / months.expected as completeness -- Share of expected bars to rely on
from months
left join faults using (asset_class, symbol, month)
