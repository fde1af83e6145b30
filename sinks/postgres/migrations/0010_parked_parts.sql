-- Whose a waiting event is belongs to its identity, and each row says what it waits for, so that a change looks only at
-- the rows that it may concern.

alter table parked_events
    drop constraint parked_events_pkey,
    -- When the event was first received. Of old rows no more is known than when they were parked.
    add column received_at timestamptz,
    -- The one meter whose usage waits, where the rest of the event was rated; empty: the whole event.
    add column meter text not null default '',
    -- What the event's dimensions of that meter are, as texts: no feature takes them.
    add column dimensions jsonb not null default '{}',
    -- What that meter would count, where it is a number that adds up.
    add column quantity numeric,
    -- The event's type; empty in old rows until the redrive has looked at them.
    add column event_type text not null default '',
    -- Whether the redrive has to look at the row for its own sake: it was parked under a catalog older than what the
    -- redrive had looked through by then.
    add column unseen boolean not null default false;
alter table parked_events
    -- Whose it is: a customer, or a subject while no customer has it. Neither can be taken for the other.
    add column owner text generated always as
        (case when customer_id is null then 'subject:' || subject else 'customer:' || customer_id end) stored,
    add column bytes integer generated always as (octet_length(raw)) stored;

update parked_events set received_at = parked_at, unseen = true;

alter table parked_events
    alter column received_at set not null,
    add primary key (owner, source, id, meter);

drop index parked_events_by_subject;
drop index parked_events_by_reason;
create index parked_events_by_subject on parked_events (subject, control_version);
create index parked_events_by_customer on parked_events (customer_id, control_version) where customer_id is not null;
create index parked_events_by_type on parked_events (event_type, meter, control_version)
    where reason in ('no_feature', 'unpriced');
create index parked_events_by_reason on parked_events (reason, meter);
create index parked_events_unseen on parked_events (control_version) where unseen;

-- How far the redrive has come in the control log; one row, made by the first dataflow.
create table redrive_position (
    one_row boolean primary key default true check (one_row),
    -- It looks, or has looked, for what the entries up to here concern. A row that is parked now, under an older
    -- catalog, may have come too late for that look.
    looking_to bigint not null,
    -- The looks for the entries up to here are done.
    looked_to bigint not null
);
