-- After a crash a commit comes again under its number.
insert into sink_commits
select * from stage_sink_commits
on conflict (sink_part) do update set sink_seq = excluded.sink_seq
