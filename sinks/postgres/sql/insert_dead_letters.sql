-- Refused bytes are kept once per reason, however often they were read.
insert into dead_letters (digest, reason, message, path, raw)
select digest, reason, message, path, raw from stage_dead_letters
on conflict do nothing
