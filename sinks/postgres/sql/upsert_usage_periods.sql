-- Absolute rows: one gives way only to a revision that is not smaller.
insert into usage_periods
select * from stage_usage_periods
on conflict (customer_id, subscription_id, card_key, period_start) do update set
    period_end = excluded.period_end,
    usage = excluded.usage,
    events = excluded.events,
    amount = excluded.amount,
    commitment = excluded.commitment,
    credits = excluded.credits,
    uncovered = excluded.uncovered,
    closed = excluded.closed,
    revision = excluded.revision,
    sink_part = excluded.sink_part,
    sink_seq = excluded.sink_seq
where usage_periods.revision <= excluded.revision
