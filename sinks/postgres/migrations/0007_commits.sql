-- How far each partition of the ledger's sink has come; and segments of event ids do not stay for good.

-- The newest commit of a partition that wrote anything. A recovery store that knows a later one is not of this ledger.
create table sink_commits (
    sink_part smallint primary key,
    sink_seq bigint not null
);

-- A segment that no snapshot names any longer goes a day after it was forgotten.
alter table seen_ids
    -- When this segment was sealed, the earlier ones from here on were still needed.
    add column oldest_needed bigint not null default 0,
    add column forgotten_at timestamptz;
create index seen_ids_forgotten on seen_ids (forgotten_at) where forgotten_at is not null;
