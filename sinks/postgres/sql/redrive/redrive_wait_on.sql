-- What rows wait for now, unless somebody has changed them.
update parked_events p set
    reason = looked.reason,
    message = looked.message,
    control_version = looked.seen_to,
    event_type = looked.event_type,
    received_at = looked.received_at,
    unseen = false
from unnest(
    %(owners)s::text[], %(sources)s::text[], %(ids)s::text[], %(meters)s::text[], %(versions)s::bigint[],
    %(reasons)s::text[], %(messages)s::text[], %(seen_to)s::bigint[], %(types)s::text[], %(received)s::timestamptz[]
) as looked (owner, source, id, meter, control_version, reason, message, seen_to, event_type, received_at)
where
    (p.owner, p.source, p.id, p.meter, p.control_version)
    = (looked.owner, looked.source, looked.id, looked.meter, looked.control_version)
