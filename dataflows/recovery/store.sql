-- How the recovery store is read: Bytewax's own tables, in SQLite.

-- name: newest_of_each_key
select state_key, ser_change from snaps where step_id = ? and snap_epoch <= ? order by state_key, snap_epoch

-- name: number_of_commits
select count(*) from commits

-- name: committed_epoch
select max(commit_epoch) from commits

-- name: frontiers
select ex_num, worker_frontier from fronts

-- name: begin_reading
-- From the first read on, the partition is seen as it was then.
begin

-- name: part_number
select part_index, part_count from parts
