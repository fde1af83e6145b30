-- The history that the ledger is in, how many commits of the dataflow it holds, and the end of its control log.
select
    newest.number,
    newest.history,
    (select coalesce(sum(sink_seq), 0)::bigint from sink_commits) as commits,
    (select coalesce(max(id), 0) from control_log) as control_head
from (values (1)) as one
left join lateral (select number, history from generations order by number desc limit 1) as newest on true
