-- The small steps of the redrive.

-- name: wait_for_locks
-- Nothing is locked yet in this transaction, so it may wait for a dataflow that is just writing.
set local lock_timeout = 0

-- name: redrive_looked
-- Looks for the entries up to here are done.
update redrive_position set looked_to = %s where looked_to < %s

-- name: redrive_entries
select id, body::text from control_log where id > %s order by id limit %s
