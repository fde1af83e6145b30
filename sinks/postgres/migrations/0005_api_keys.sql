-- Keys of the HTTP API. A row is added and revoked once, and never deleted, so that two counts tell whether any changed.

create table api_keys (
    -- The visible part of the key.
    id text primary key,
    name text not null,
    role text not null check (role in ('ingest', 'read', 'admin')),
    -- SHA-256 of the secret part, which is 32 random bytes and kept nowhere.
    digest bytea not null check (length(digest) = 32),
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);
create index api_keys_valid on api_keys (id) where revoked_at is null;
