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
        dimensions, quantity, event_type, unseen, read_version
    )
    select
        source, id, reason, message, subject, customer_id, event_time, control_version, raw, received_at, meter,
        dimensions, quantity, event_type, late, read_version
    from firsts
    on conflict (owner, source, id, meter) do update set
        reason = excluded.reason,
        message = excluded.message,
        control_version = greatest(p.control_version, excluded.control_version),
        read_version = greatest(p.read_version, excluded.read_version),
        unseen = p.unseen or excluded.unseen
    where p.raw = excluded.raw
),
clashing as (
    insert into dead_letters (digest, reason, message, path, raw)
    select distinct
        sha256(staged.raw),
        'duplicate_mismatch',
        'an event with the same source and id, but other content, waits',
        '$',
        staged.raw
    from stage_parked_events staged
    join firsts using (owner, source, id, meter)
    left join parked_events p using (owner, source, id, meter)
    where staged.raw <> coalesce(p.raw, firsts.raw)
    on conflict do nothing
    returning digest
)
select count(*) from clashing
