-- Absolute rows: one gives way only to a revision that is not smaller. A row of a window that had left the state keeps
-- the one it replaces beside it: the state can't tell that again if the commit is undone.
with kept as (
    insert into charges_before
    select charges.*
    from charges
    inner join stage_charges as staged using (customer_id, subscription_id, card_key, period_start, window_start)
    where staged.was_left and charges.sink_seq < staged.sink_seq
    on conflict do nothing
)

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
    sink_seq = excluded.sink_seq,
    parts = excluded.parts,
    was_left = excluded.was_left
where charges.revision <= excluded.revision
