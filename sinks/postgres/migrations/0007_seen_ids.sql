-- Segments of event ids that no snapshot names any longer go, a day after they were forgotten.

alter table seen_ids
    -- When this segment was sealed, the earlier ones from here on were still needed.
    add column oldest_needed bigint not null default 0,
    add column forgotten_at timestamptz;
create index seen_ids_forgotten on seen_ids (forgotten_at) where forgotten_at is not null;
