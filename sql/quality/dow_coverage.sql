-- One row per year: how much of the Dow Jones index, as it was on each session, has bars; the rest is survivorship.
with

member_sessions as (
    select
        sessions.bar_start,
        members.company,
        members.symbol,
        -- A series may be called as it was at the time, unless another company's carries that name today.
        if(members.symbol is null, null, members.ticker) as ticker
    from raw.nyse_sessions as sessions
    inner join raw.dow_members as members
        on sessions.bar_start >= members.member_from
        and (members.member_until is null or sessions.bar_start < members.member_until)
    where sessions.bar_start between
        (select min(bar_start) from bars.market_bars where asset_class = 'dow')
        and (select max(bar_start) from bars.market_bars where asset_class = 'dow')
),

stored as (
    select symbol, bar_start
    from bars.market_bars
    where asset_class = 'dow' and fault is null
),

looked_for as (
    select
        *,
        coalesce((symbol, bar_start) in (from stored), false)
        or coalesce((ticker, bar_start) in (from stored), false) as has_bar
    from member_sessions
)

select
    extract('year' from bar_start)::integer as year, -- Calendar year
    count(*) as member_sessions, -- Sessions times members of the index at the time
    count(*) filter (where has_bar) as with_bars, -- Those that have a sound bar
    count(*) filter (where has_bar) / count(*) as coverage, -- Their share
    array_to_string(
        list_sort(list_distinct(list(company) filter (where not has_bar))), ', '
    ) as companies_without_bars -- Members that lack bars on some session of the year
from looked_for
group by year
order by year
