-- A segment's number is never used twice; the same number again is a replay, and the later bytes are the state's.
insert into seen_ids (key_group, segment, ids, oldest_needed)
select key_group, segment, ids, oldest_needed from stage_seen_ids
on conflict (key_group, segment) do update set
    ids = excluded.ids,
    oldest_needed = excluded.oldest_needed,
    forgotten_at = null;

-- What was forgotten is kept for a day: after a crash the flow goes on from a snapshot that may still name it.
update seen_ids set forgotten_at = now()
from (select key_group, max(oldest_needed) as oldest_needed from stage_seen_ids group by key_group) as sealed
where seen_ids.key_group = sealed.key_group
    and seen_ids.segment < sealed.oldest_needed
    and seen_ids.forgotten_at is null;

delete from seen_ids where forgotten_at < now() - interval '1 day';
