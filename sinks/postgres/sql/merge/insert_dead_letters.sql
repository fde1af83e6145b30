-- Refused bytes are kept once per reason and meter, however often they were read.
insert into dead_letters (digest, reason, meter, message, path, raw)
select digest, reason, meter, message, path, raw from stage_dead_letters
on conflict do nothing
