-- Rows that may have come too late for a look at what concerns them; by an index alone.
select
    p.owner, p.source, p.id, p.meter, p.control_version, p.subject, p.customer_id, p.reason, p.event_time, p.received_at,
    p.event_type, p.bytes, p.read_version
from parked_events p
where p.unseen
order by p.control_version
limit %(rows_max)s
