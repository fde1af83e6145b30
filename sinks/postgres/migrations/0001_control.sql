-- The control log: what was decided about the catalog, in one order that the dataflow reads by growing id.
create table control_log (
    id bigint generated always as identity primary key,
    kind text not null,
    -- The key group of the customer concerned; null concerns all.
    key_group smallint,
    customer_id text,
    body jsonb not null,
    recorded_at timestamptz not null default now()
);
create index control_log_by_key_group on control_log (key_group, id);
