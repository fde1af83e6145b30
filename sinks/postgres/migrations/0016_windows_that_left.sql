-- What the dataflow brings back of windows that left its state, and what their rows were before it told them again.
alter table charges
    -- The parts of a window by time of use, where its start does not date all of it: [start, end, quantity, ...].
    add column parts jsonb,
    -- Whether the window had left the state before this row: an undone commit then gives back the row it replaced.
    add column was_left boolean not null default false;

-- The rows that such rows replaced, each as of its own commit.
create table charges_before (like charges including defaults);

create unique index charges_before_key
on charges_before (customer_id, subscription_id, card_key, period_start, window_start, sink_seq);
