-- Copies of the recovery store: a lost one is made anew from the newest that is whole, and the event log since.

create table recovery_copies (
    copied_at timestamptz not null,
    part smallint not null,
    -- How many partitions the recovery store has.
    parts smallint not null,
    -- The last epoch in the copy.
    epoch bigint not null,
    chunk integer not null,
    content bytea not null,
    primary key (copied_at, part, chunk)
);
-- It is compressed already.
alter table recovery_copies alter column content set storage external;
