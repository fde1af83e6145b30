-- A segment's number is never used twice; the same number again is a replay, and the later bytes are the state's.
insert into seen_ids
select * from stage_seen_ids
on conflict (key_group, segment) do update set ids = excluded.ids
