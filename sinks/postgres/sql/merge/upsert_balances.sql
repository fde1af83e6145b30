-- Absolute rows: one gives way only to a revision that is not smaller.
insert into balances
select * from stage_balances
on conflict (customer_id) do update set
    customer_key = excluded.customer_key,
    currency = excluded.currency,
    funded = excluded.funded,
    settled = excluded.settled,
    live = excluded.live,
    pending = excluded.pending,
    overage = excluded.overage,
    consumed = excluded.consumed,
    expired = excluded.expired,
    voided = excluded.voided,
    uncovered = excluded.uncovered,
    charged = excluded.charged,
    access = excluded.access,
    reason = excluded.reason,
    level = excluded.level,
    threshold = excluded.threshold,
    blocked_features = excluded.blocked_features,
    revision = excluded.revision,
    as_of = excluded.as_of,
    sink_part = excluded.sink_part,
    sink_seq = excluded.sink_seq
where balances.revision <= excluded.revision
