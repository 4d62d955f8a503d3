-- A market that is fetched up to now has a bar of the clock or session that ended a day and a half ago.
with

expected as (
    select 'crypto' as asset_class, now() - interval 36 hours - to_minutes($crypto_bar_minutes) as ends_at

    union all

    select 'dow' as asset_class, max(closes_at) as ends_at
    from raw.nyse_sessions
    where closes_at < now() - interval 36 hours
)

select
    expected.asset_class,
    max(market_bars.bar_end) as last_bar_ended_at,
    'the last bar of any instrument ended at ' || strftime(max(market_bars.bar_end), '%Y-%m-%d %H:%M')
    || ' UTC; run job backfill, and read why the last ingestion failed' as reason
from expected
inner join bars.market_bars using (asset_class)
where list_contains($live, expected.asset_class)
group by expected.asset_class, expected.ends_at
having max(market_bars.bar_end) < expected.ends_at
