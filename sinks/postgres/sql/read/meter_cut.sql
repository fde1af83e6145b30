-- The first window with usage, of those that a query would cut.
select min(window_start) as window_start
from charges
where
    feature_key = any(%(features)s)
    and events > 0
    and (%(customers)s::text[] is null or customer_id = any(%(customers)s))
    and window_start = any(%(windows)s)
