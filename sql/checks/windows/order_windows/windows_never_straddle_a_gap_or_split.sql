-- The bars from the first of the lookback to the last of the horizon are all there, with no split among them.
with

spans as (
    select
        asset_class,
        symbol,
        bar_start,
        bar_number - $lookback + 1 as first_bar,
        bar_number + $horizon - 1 as last_bar
    from windows.order_windows
),

bars as (
    select
        asset_class,
        symbol,
        bar_number,
        count(*) over by_symbol as bars_so_far,
        -- A split on the first bar of a span rescales nothing within it. No filter: DuckDB would count anew for each bar.
        count(nullif(split_ratio <> 1, false)) over by_symbol as splits_so_far
    from bars.market_bars
    where fault is null
    window by_symbol as (partition by asset_class, symbol order by bar_number)
)

select
    spans.asset_class,
    spans.symbol,
    spans.bar_start,
    case when last.splits_so_far <> first.splits_so_far
        then 'a split falls inside the window'
        else 'a bar is missing inside the window'
    end as reason
from spans
left join bars as first
    on spans.asset_class = first.asset_class and spans.symbol = first.symbol and spans.first_bar = first.bar_number
left join bars as last
    on spans.asset_class = last.asset_class and spans.symbol = last.symbol and spans.last_bar = last.bar_number
where
    coalesce(last.bars_so_far - first.bars_so_far <> $lookback + $horizon - 2, true)
    or last.splits_so_far <> first.splits_so_far
