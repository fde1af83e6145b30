-- Copies of an event that waits are known by what they say, however their JSON is written.

alter table parked_events
    -- The digest of what the event says. Of old rows it is not known: they are compared by their bytes.
    add column content bytea;
