-- Absolute rows: one gives way only to a revision that is not smaller.
insert into credit_entries
select * from stage_credit_entries
on conflict (customer_id, grant_id, subscription_id, card_key, period_start, window_start) do update set
    amount = excluded.amount,
    revision = excluded.revision,
    sink_part = excluded.sink_part,
    sink_seq = excluded.sink_seq
where credit_entries.revision <= excluded.revision
