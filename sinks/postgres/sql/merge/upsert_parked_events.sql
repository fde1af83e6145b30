-- An event waits once, however often it was read. Of two with one identity and other content the first received waits;
-- the other is kept as a dead letter. Gives how many of these are new.
with position as materialized (
    -- Locked, so that the redrive begins no look before these rows can be seen.
    select looking_to from redrive_position for share
),
firsts as materialized (
    select distinct on (owner, source, id, meter)
        stage_parked_events.*,
        -- The last part: it went to the key group of its subject, though a customer has it, and no entry is to come
        -- that would say so.
        control_version < coalesce((select looking_to from position), control_version + 1)
        or (reason = 'unknown_subject' and customer_id is not null) as late
    from stage_parked_events
    order by owner, source, id, meter, received_at, raw
),
waiting as (
    insert into parked_events as p (
        source, id, reason, message, subject, customer_id, event_time, control_version, raw, received_at, meter,
        dimensions, quantity, event_type, unseen, read_version, content
    )
    select
        source, id, reason, message, subject, customer_id, event_time, control_version, raw, received_at, meter,
        dimensions, quantity, event_type, late, read_version, content
    from firsts
    on conflict (owner, source, id, meter) do update set
        reason = excluded.reason,
        message = excluded.message,
        control_version = greatest(p.control_version, excluded.control_version),
        read_version = greatest(p.read_version, excluded.read_version),
        unseen = p.unseen or excluded.unseen,
        -- Of the same event the row stays that of its first receipt; another one that was received sooner takes it over.
        subject = case when p.received_at <= excluded.received_at then p.subject else excluded.subject end,
        event_time = case when p.received_at <= excluded.received_at then p.event_time else excluded.event_time end,
        raw = case when p.received_at <= excluded.received_at then p.raw else excluded.raw end,
        received_at = case when p.received_at <= excluded.received_at then p.received_at else excluded.received_at end,
        dimensions = case when p.received_at <= excluded.received_at then p.dimensions else excluded.dimensions end,
        quantity = case when p.received_at <= excluded.received_at then p.quantity else excluded.quantity end,
        event_type = case when p.received_at <= excluded.received_at then p.event_type else excluded.event_type end,
        content = case when p.received_at <= excluded.received_at then p.content else excluded.content end
    where p.raw = excluded.raw or p.content = excluded.content or excluded.received_at < p.received_at
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
        select owner, source, id, meter, raw, content from stage_parked_events
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
