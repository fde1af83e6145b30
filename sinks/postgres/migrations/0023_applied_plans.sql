-- What a catalog file last said of a plan is remembered: a file that says it again publishes nothing over a version that was
-- published by other ways since.
create table applied_plans (
    key text primary key,
    body jsonb not null,
    applied_at timestamptz not null default now()
);
