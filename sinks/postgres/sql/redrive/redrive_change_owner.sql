-- Rows become another's: a customer got their subject, or lost it. Where that one has an event with the same id already, it
-- is the same event; with other content the one that comes is kept as a dead letter. Gives how many of these are new.
with looked as materialized (
    select *
    from unnest(
        %(owners)s::text[], %(sources)s::text[], %(ids)s::text[], %(meters)s::text[], %(versions)s::bigint[],
        %(reasons)s::text[], %(messages)s::text[], %(seen_to)s::bigint[], %(types)s::text[],
        %(received)s::timestamptz[], %(customers)s::text[]
    ) as looked (
        owner, source, id, meter, control_version,
        reason, message, seen_to, event_type, received_at, customer_id
    )
),
gone as (
    delete from parked_events p using looked
    where
        (p.owner, p.source, p.id, p.meter, p.control_version)
        = (looked.owner, looked.source, looked.id, looked.meter, looked.control_version)
    returning
        p.source, p.id, looked.reason, looked.message, p.subject, looked.customer_id, p.event_time, looked.seen_to,
        p.parked_at, p.raw, looked.received_at, p.meter, p.dimensions, p.quantity, looked.event_type, p.read_version,
        case when looked.customer_id is null then 'subject:' || p.subject else 'customer:' || looked.customer_id end
        as owner
),
firsts as materialized (
    select distinct on (owner, source, id, meter) * from gone order by owner, source, id, meter, received_at, raw
),
moved as (
    insert into parked_events (
        source, id, reason, message, subject, customer_id, event_time, control_version, parked_at, raw, received_at,
        meter, dimensions, quantity, event_type, read_version
    )
    select
        source, id, reason, message, subject, customer_id, event_time, seen_to, parked_at, raw, received_at,
        meter, dimensions, quantity, event_type, read_version
    from firsts
    on conflict (owner, source, id, meter) do nothing
),
clashing as (
    insert into dead_letters (digest, reason, message, path, raw)
    select distinct
        sha256(gone.raw),
        'duplicate_mismatch',
        'an event with the same source and id, but other content, waits',
        '$',
        gone.raw
    from gone
    join firsts using (owner, source, id, meter)
    left join parked_events p using (owner, source, id, meter)
    where gone.raw <> coalesce(p.raw, firsts.raw)
    on conflict do nothing
    returning digest
)
select count(*) from clashing
