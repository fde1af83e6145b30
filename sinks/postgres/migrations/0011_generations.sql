-- Histories of the ledger. After a restore, or a rebuild of the recovery store, another history goes on from an older
-- state: its revisions are smaller than those that readers outside of the ledger have seen, and its generation greater.

create table generations (
    -- The instant at which it began, in milliseconds since 1970, or one more than the greatest that was ever seen: so
    -- it is above all that went before, also where nobody remembers those any more.
    number bigint primary key,
    -- Random: two ledgers, or two that go on from one backup, never have the same.
    history text not null,
    raised_at timestamptz not null default now(),
    why text not null
);

alter table signals add column generation bigint not null default 0;
