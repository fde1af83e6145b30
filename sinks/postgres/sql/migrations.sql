-- Which migrations a database has.

-- name: lock_for_migration
-- Held by the connection: it goes however the process ends.
select pg_advisory_lock(%s)

-- name: create_migrations
-- An earlier version kept them in `_yoyo_migration`: what that has was applied, and is taken over once.
create table if not exists schema_migrations (
    name text primary key,
    applied_at timestamptz not null default now()
);

do $$
begin
    if to_regclass('_yoyo_migration') is not null then
        insert into schema_migrations (name, applied_at)
        select migration_id, applied_at_utc at time zone 'UTC' from _yoyo_migration
        on conflict do nothing;
    end if;
end
$$

-- name: applied_migrations
select name from schema_migrations

-- name: mark_migration
insert into schema_migrations (name) values (%s)
