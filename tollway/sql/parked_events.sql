-- Events that wait, the newest first; one that was driven again is no longer here.
select source, id, reason, message, subject, customer_id, event_time, control_version, parked_at, raw
from parked_events
where
    (%(reason)s::text is null or reason = %(reason)s)
    and (%(customer_id)s::text is null or customer_id = %(customer_id)s)
order by parked_at desc, source, id
limit %(limit)s
