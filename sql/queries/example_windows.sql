-- The test windows at which the model's slippage stands at the 10th, 50th and 90th percentile (nearest rank): buying a fixed quantity against VWAP.
with

ranked as (
    select
        model,
        asset_class,
        symbol,
        bar_start,
        slippage_bps,
        row_number() over by_slippage as place,
        count(*) over (partition by model, asset_class) as orders
    from results.order_results
    where
        strategy = 'LEM'
        and side = 'buy'
        and target = 'quantity'
        and benchmark = 'VWAP'
        and minimum_duration = $minimum_duration
    window by_slippage as (partition by model, asset_class order by slippage_bps, symbol, bar_start)
)

select
    model,
    asset_class,
    percentile,
    symbol,
    bar_start,
    slippage_bps
from ranked
inner join (values (10), (50), (90)) as shown (percentile)
    on place = greatest(ceil(percentile / 100 * orders), 1)
order by model, asset_class, percentile
