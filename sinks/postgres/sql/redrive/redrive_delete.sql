-- Rows leave whose events are in the log again.
delete from parked_events p
using unnest(%(owners)s::text[], %(sources)s::text[], %(ids)s::text[], %(meters)s::text[])
    as driven (owner, source, id, meter)
where (p.owner, p.source, p.id, p.meter) = (driven.owner, driven.source, driven.id, driven.meter)
