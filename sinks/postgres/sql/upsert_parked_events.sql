-- An event waits once, however often it was read.
insert into parked_events (source, id, reason, message, subject, customer_id, event_time, control_version, raw)
select source, id, reason, message, subject, customer_id, event_time, control_version, raw
from stage_parked_events
on conflict (source, id) do update set
    reason = excluded.reason,
    message = excluded.message,
    customer_id = excluded.customer_id,
    control_version = greatest(parked_events.control_version, excluded.control_version)
