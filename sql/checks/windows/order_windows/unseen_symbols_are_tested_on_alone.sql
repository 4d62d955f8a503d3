-- No window of an unseen symbol trains or validates a model.
select
    asset_class,
    symbol,
    bar_start,
    split,
    'an unseen symbol has a window in the ' || split || ' split' as reason
from windows.order_windows
where (is_unseen_symbol or list_contains($unseen_symbols, symbol)) and split <> 'test'
