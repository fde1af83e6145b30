-- The catalog as the control plane sees it, and the ledger as the dataflow projects it.
-- Every ledger row is absolute: it gives way only to a row of the same key with a revision that is not smaller.
-- `sink_part` and `sink_seq` say which commit of the dataflow wrote it: what a crash left uncommitted is taken back on resume.

create table meters (
    key text primary key,
    body jsonb not null,
    created_at timestamptz not null default now()
);

create table features (
    key text primary key,
    body jsonb not null,
    created_at timestamptz not null default now()
);

create table plans (
    key text not null,
    version integer not null,
    body jsonb not null,
    published_at timestamptz not null default now(),
    primary key (key, version)
);

create table customers (
    id text primary key,
    key text not null unique,
    body jsonb not null,
    created_at timestamptz not null default now()
);

-- A subject belongs to one customer at most.
create table customer_subjects (
    subject text primary key,
    customer_id text not null references customers (id)
);

create table subscriptions (
    id text primary key,
    customer_id text not null references customers (id),
    key text,
    body jsonb not null,
    created_at timestamptz not null default now(),
    unique (customer_id, key)
);

-- The same customer and key again is the same grant.
create table grants (
    id text primary key,
    customer_id text not null references customers (id),
    key text,
    body jsonb not null,
    created_at timestamptz not null default now(),
    unique (customer_id, key)
);

create table charges (
    customer_id text not null,
    subscription_id text not null,
    card_key text not null,
    period_start timestamptz not null,
    window_start timestamptz not null,
    feature_key text,
    period_end timestamptz not null,
    full_start timestamptz not null,
    full_end timestamptz not null,
    currency text not null,
    settlement_mode text not null,
    quantity numeric not null,
    late_quantity numeric not null,
    events bigint not null,
    amount numeric not null,
    commitment numeric not null,
    credits numeric not null,
    uncovered numeric not null,
    -- What each grant paid: {grant id: amount as a string}.
    paid jsonb not null,
    closed boolean not null,
    revision bigint not null,
    sink_part smallint not null,
    sink_seq bigint not null,
    primary key (customer_id, subscription_id, card_key, period_start, window_start)
) with (fillfactor = 70);

-- A billing period is the sum of its windows.
create view usage_periods as
select
    customer_id,
    subscription_id,
    card_key,
    period_start,
    max(feature_key) as feature_key,
    (array_agg(period_end order by revision desc))[1] as period_end,
    (array_agg(full_start order by revision desc))[1] as full_start,
    (array_agg(full_end order by revision desc))[1] as full_end,
    max(currency) as currency,
    max(settlement_mode) as settlement_mode,
    sum(quantity) as usage,
    sum(events)::bigint as events,
    sum(amount - commitment) as amount,
    sum(commitment) as commitment,
    sum(credits) as credits,
    sum(uncovered) as uncovered,
    bool_or(closed) as closed,
    max(revision) as revision
from charges
group by customer_id, subscription_id, card_key, period_start;

-- What one grant paid for one feature within one window.
create view credit_entries as
select
    charges.customer_id,
    entry.key as grant_id,
    charges.subscription_id,
    charges.card_key,
    charges.period_start,
    charges.window_start,
    charges.feature_key,
    entry.value::numeric as amount,
    charges.revision
from charges, jsonb_each_text(charges.paid) as entry;

create table balances (
    customer_id text primary key,
    customer_key text not null,
    currency text not null,
    funded numeric not null,
    settled numeric not null,
    live numeric not null,
    pending numeric not null,
    overage numeric not null,
    consumed numeric not null,
    expired numeric not null,
    voided numeric not null,
    uncovered numeric not null,
    charged numeric not null,
    access text not null,
    reason text not null,
    level integer not null,
    threshold text not null,
    blocked_features text[] not null,
    revision bigint not null,
    as_of timestamptz not null,
    sink_part smallint not null,
    sink_seq bigint not null
) with (fillfactor = 70);

-- A copy of the signal stream, by its entry id; appended only.
create table signals (
    id text primary key,
    customer_id text not null,
    customer_key text not null,
    sequence bigint not null,
    kind text not null,
    feature_key text not null,
    reason text not null,
    live numeric not null,
    revision bigint not null,
    raised_at timestamptz not null
);
create index signals_by_customer on signals (customer_key, sequence);

-- Events that wait for the catalog; a row leaves when its event is back in the log.
create table parked_events (
    source text not null,
    id text not null,
    reason text not null,
    message text not null,
    subject text not null,
    customer_id text,
    event_time timestamptz not null,
    control_version bigint not null,
    parked_at timestamptz not null default now(),
    raw bytea not null,
    primary key (source, id)
);
create index parked_events_by_subject on parked_events (subject);
create index parked_events_by_reason on parked_events (reason, control_version);

-- Events that were refused, by the hash of their bytes: the same bytes again are the same row.
create table dead_letters (
    digest bytea not null,
    reason text not null,
    message text not null,
    path text not null,
    recorded_at timestamptz not null default now(),
    raw bytea not null,
    primary key (digest, reason)
);

-- Full segments of event ids; a number is never used twice within a key group.
create table seen_ids (
    key_group smallint not null,
    segment bigint not null,
    ids bytea not null,
    primary key (key_group, segment)
);

create sequence invoice_number;

create table invoices (
    id text primary key,
    number text not null unique,
    customer_id text not null references customers (id),
    currency text not null,
    status text not null,
    amount numeric not null,
    discounts numeric not null,
    charges numeric not null,
    credits numeric not null,
    total numeric not null,
    period_start timestamptz not null,
    period_end timestamptz not null,
    as_of timestamptz not null,
    issued_at timestamptz not null default now()
);

create table invoice_lines (
    id text primary key,
    invoice_id text not null references invoices (id),
    parent_id text references invoice_lines (id),
    position integer not null,
    subscription_id text not null,
    card_key text not null,
    feature_key text,
    name text not null,
    category text not null,
    period_start timestamptz not null,
    period_end timestamptz not null,
    quantity numeric not null,
    unit_price numeric,
    flat_price numeric,
    amount numeric not null,
    discounts numeric not null,
    charges numeric not null,
    credits numeric not null,
    total numeric not null,
    -- What the period had come to when the line was drawn up: the next invoice goes on from here.
    usage_after numeric,
    credits_after numeric,
    closed boolean not null default false
);
create index invoice_lines_by_period on invoice_lines (subscription_id, card_key, period_start);
