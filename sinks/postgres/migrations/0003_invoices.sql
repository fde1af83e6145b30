-- An invoice stands by itself: each line keeps the price that it was drawn up with.

alter table invoices add column voided_at timestamptz;
create index invoices_by_customer on invoices (customer_id, issued_at);

alter table invoice_lines
    -- The metered usage that the line bills, before conversion and free units; lines only.
    add column metered_quantity numeric,
    -- `price`, `discounts` and `unitConfig` as OpenMeter's v1 API writes them; lines only.
    add column rate_card jsonb;
create index invoice_lines_by_invoice on invoice_lines (invoice_id, position);

create index parked_events_by_time on parked_events (parked_at);
create index dead_letters_by_time on dead_letters (recorded_at);
