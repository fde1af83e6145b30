-- What the HTTP API keeps beside the catalog: plans that are not published yet, and what people wrote on things.

-- A plan as it was sent; it gets its version when it is published, and then never changes.
create table api_plans (
    id text primary key,
    key text not null,
    -- The version it has, or will have.
    version integer not null,
    body jsonb not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    published_at timestamptz
);
create unique index api_plans_one_draft on api_plans (key) where published_at is null;
create index api_plans_by_version on api_plans (key, version);

-- Descriptions, metadata, labels and the like: no rate depends on them.
create table api_notes (
    kind text not null,
    -- The key of a meter or a feature, the id of anything else.
    ref text not null,
    body jsonb not null,
    updated_at timestamptz not null default now(),
    primary key (kind, ref)
);
