-- Rows of some customers that were last looked at before an entry of the control log; by an index alone.
select
    p.owner, p.source, p.id, p.meter, p.control_version, p.subject, p.customer_id, p.reason, p.event_time, p.received_at,
    p.event_type, p.bytes, p.read_version
from unnest(%(keys)s::text[], %(before)s::bigint[]) as look (key, before)
join parked_events p on p.customer_id = look.key and p.control_version < look.before
limit %(rows_max)s
