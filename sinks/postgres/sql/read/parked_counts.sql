-- How many wait, by reason.
select reason, count(*) as events
from parked_events
where (%(customer_id)s::text is null or customer_id = %(customer_id)s) and (meter <> '') = %(parts)s
group by reason
