-- The latest decision about each model.
select model, decided_at, action, decided_by, reason
from results.promotion_log
qualify row_number() over (partition by model order by decided_at desc) = 1
order by model
