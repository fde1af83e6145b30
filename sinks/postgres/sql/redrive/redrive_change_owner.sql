-- Rows become another's: a customer got their subject, or lost it. Where that one has an event with the same id already, it
-- is the same event; with other content the first received stays, and the other is kept as a dead letter. Gives how many of these are new.
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
        p.content,
        case when looked.customer_id is null then 'subject:' || p.subject else 'customer:' || looked.customer_id end
        as owner
),
firsts as materialized (
    select distinct on (owner, source, id, meter) * from gone order by owner, source, id, meter, received_at, raw
),
moved as (
    insert into parked_events as p (
        source, id, reason, message, subject, customer_id, event_time, control_version, parked_at, raw, received_at,
        meter, dimensions, quantity, event_type, read_version, content
    )
    select
        source, id, reason, message, subject, customer_id, event_time, seen_to, parked_at, raw, received_at,
        meter, dimensions, quantity, event_type, read_version, content
    from firsts
    on conflict (owner, source, id, meter) do update set
        reason = excluded.reason,
        message = excluded.message,
        subject = excluded.subject,
        event_time = excluded.event_time,
        control_version = excluded.control_version,
        parked_at = excluded.parked_at,
        raw = excluded.raw,
        received_at = excluded.received_at,
        dimensions = excluded.dimensions,
        quantity = excluded.quantity,
        event_type = excluded.event_type,
        read_version = excluded.read_version,
        content = excluded.content
    -- One that was received sooner, and says something else, takes the row over.
    where
        excluded.received_at < p.received_at
        and p.raw <> excluded.raw
        and coalesce(p.content <> excluded.content, true)
),
winners as (
    select
        owner, source, id, meter,
        (case when p.received_at <= firsts.received_at then p.raw else firsts.raw end) as raw,
        (case when p.received_at <= firsts.received_at then p.content else firsts.content end) as content
    from firsts
    left join parked_events p using (owner, source, id, meter)
),
clashing as (
    insert into dead_letters (digest, reason, message, path, raw)
    select distinct
        sha256(other.raw),
        'duplicate_mismatch',
        'an event with the same source and id, but other content, waits',
        '$',
        other.raw
    from (
        select owner, source, id, meter, raw, content from gone
        union all
        select owner, source, id, meter, p.raw, p.content
        from firsts
        join parked_events p using (owner, source, id, meter)
    ) as other
    join winners using (owner, source, id, meter)
    where other.raw <> winners.raw and coalesce(other.content <> winners.content, true)
    on conflict do nothing
    returning digest
)
select count(*) from clashing
