-- Rows that wait for a feature of some meters: whole events of their types, and parts of these meters; by an index alone.
select
    p.owner, p.source, p.id, p.meter, p.control_version, p.subject, p.customer_id, p.reason, p.event_time, p.received_at,
    p.event_type, p.bytes, p.read_version
from unnest(%(keys)s::text[], %(before)s::bigint[], %(meters)s::text[]) as look (key, before, meter)
cross join lateral unnest(array['', look.meter]) as part (meter)
join parked_events p
    on p.event_type = look.key and p.meter = part.meter and p.control_version < look.before
    and p.reason in ('no_feature', 'unpriced')
limit %(rows_max)s
