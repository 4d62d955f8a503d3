-- How many orders of each model, strategy and minimum duration complete in each bar.
select
    model,
    strategy,
    minimum_duration,
    completion_bar,
    count(*) as orders
from results.order_results
group by all
order by all
