-- The control log: what the catalog was told, in order.

-- name: queue_up
-- No two transactions change the catalog at once, so ids of entries become visible in order.
select pg_advisory_xact_lock(%s)

-- name: copy_control_log
copy control_log (kind, key_group, customer_id, body) from stdin

-- name: newest_control_entry
select coalesce(max(id), 0) from control_log

-- name: notify_control
select pg_notify(%s, %s)

-- name: control_entries
select id, body::text from control_log where id > %s order by id

-- name: control_entries_for_gate
-- Whom and what some entries are about, without their bodies.
select id, kind, customer_id, body ->> 'key', body -> 'feature' ->> 'key'
from control_log
where id > %s
order by id
limit %s
