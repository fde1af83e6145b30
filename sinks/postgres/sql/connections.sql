-- What a connection is set up with and asked for its own sake.

-- name: use_utc
-- Instants are written in UTC, whatever the server, the database or the role has for a time zone.
set time zone 'UTC'

-- name: limit_time
-- A statement that takes longer fails.
set statement_timeout = '{seconds}s'

-- name: is_alive
select 1

-- name: has_database
select from pg_database where datname = %s

-- name: create_database
create database {database}

-- name: has_schema
select
    to_regclass('control_log') is not null
    and to_regclass('balances') is not null
    and to_regclass('invoices') is not null

-- name: has_api_schema
-- Fails where a table of the API's, or of the ledger's, is missing.
select from api_plans, balances limit 0
