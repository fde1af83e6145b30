-- Events that wait, or parts of events, the newest first; one that was driven again is no longer here.
select
    source, id, reason, message, subject, customer_id, event_time, control_version, parked_at, received_at, event_type,
    meter, dimensions, quantity, raw
from parked_events
where
    (%(reason)s::text is null or reason = %(reason)s)
    and (%(customer_id)s::text is null or customer_id = %(customer_id)s)
    and (meter <> '') = %(parts)s
order by parked_at desc, owner, source, id, meter
limit %(limit)s
