-- How the dataflow writes the ledger, beside the statements that merge what was staged.

-- name: try_to_hold_ledger
-- Held by the connection: it goes however the process ends.
select pg_try_advisory_lock(%s, %s)

-- name: stage_table
create temporary table stage_{table} (like {table} including defaults including generated)
on commit delete rows

-- name: copy_to_stage
copy stage_{table} {columns} from stdin {options}

-- name: commit_of_part
select sink_seq from sink_commits where sink_part = %s

-- name: parts_with_commits
select sink_part from sink_commits

-- name: newest_commit_of_rows
-- The last commit after another that a partition wrote rows of a table in; null where there is none.
select max(sink_seq) from {table} where sink_part = %s and sink_seq > %s

-- name: take_back_rows
-- Rows of commits after that one never were.
delete from {table} where sink_part = %s and sink_seq > %s

-- name: set_commit_of_part
update sink_commits set sink_seq = %s where sink_part = %s

-- name: remember_seen_ids
-- A commit that was taken back may have let go of some of these segments.
update seen_ids
set forgotten_at = null
where key_group = %s and segment = any(%s) and forgotten_at is not null

-- name: seen_ids_of_segments
select ids from seen_ids where key_group = %s and segment = any(%s) order by segment

-- name: rereads
-- The histories in which the log was read again.
select read_from, control_version from generations where read_from is not null order by number

-- name: ledger_generation
select coalesce(max(number), 0) from generations

-- name: queue_for_history
-- Processes of a cluster that start at once decide one after the other which history the ledger is in.
select pg_advisory_xact_lock(%s)

-- name: newest_signal
select id from signals order by raised_at desc, id desc limit 1

-- name: insert_signal
-- Copying an entry of the stream again changes nothing.
insert into signals (
    id, customer_id, customer_key, sequence, kind, feature_key, reason, live, revision, raised_at, generation
)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
on conflict do nothing
