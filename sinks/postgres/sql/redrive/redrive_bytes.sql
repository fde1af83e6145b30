-- The bytes of rows that nobody has changed since they were found.
select p.owner, p.source, p.id, p.meter, p.raw
from unnest(%(owners)s::text[], %(sources)s::text[], %(ids)s::text[], %(meters)s::text[], %(versions)s::bigint[])
    as found (owner, source, id, meter, control_version)
join parked_events p using (owner, source, id, meter, control_version)
