-- Absolute rows: one gives way only to a revision that is not smaller.
insert into charges
select * from stage_charges
on conflict (customer_id, subscription_id, card_key, period_start, window_start) do update set
    period_end = excluded.period_end,
    quantity = excluded.quantity,
    late_quantity = excluded.late_quantity,
    events = excluded.events,
    amount = excluded.amount,
    commitment = excluded.commitment,
    credits = excluded.credits,
    uncovered = excluded.uncovered,
    paid = excluded.paid,
    closed = excluded.closed,
    revision = excluded.revision,
    sink_part = excluded.sink_part,
    sink_seq = excluded.sink_seq
where charges.revision <= excluded.revision
