-- Copies of the recovery store, kept beside the ledger that they belong to.

-- name: insert_recovery_chunk
insert into recovery_copies (copied_at, part, parts, epoch, chunk, content)
values (%s, %s, %s, %s, %s, %s)

-- name: delete_old_recovery_copies
-- So many of the newest copies stay.
delete from recovery_copies
where copied_at < (
    select min(copied_at)
    from (select distinct copied_at from recovery_copies order by 1 desc limit %s) as kept
)

-- name: recovery_copies
-- The newest first; parts of one instant but of several epochs are several.
select copied_at, array_agg(distinct part order by part), max(parts), epoch, sum(length(content))
from recovery_copies
group by copied_at, epoch
order by copied_at desc, epoch desc

-- name: recovery_chunks
select content from recovery_copies where copied_at = %s and part = %s order by chunk
