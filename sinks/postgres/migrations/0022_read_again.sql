-- What was driven again stays in the log. Where the log is read again, with all that is in the control log by then, the
-- events themselves are rated where they stand, and what was driven again for them must not count once more.

alter table generations
    -- The newest entry of the control log as the history began.
    add column control_version bigint not null default 0,
    -- Events received after this instant are read again in the history; null: no more than after any crash.
    add column read_from timestamptz;

alter table parked_events
    -- The entry of the control log that had at least been seen when the event was read, and had to wait. Of old rows no
    -- more is known than when they were last looked at. The greatest number: not known, so never of an undone reading.
    add column read_version bigint not null default 9223372036854775807;
update parked_events set read_version = control_version;
