-- Invoices begin as drafts, and credits can be bought on an invoice.

alter table invoices
    -- A draft is not issued yet.
    alter column issued_at drop not null,
    alter column issued_at drop default,
    add column created_at timestamptz not null default now(),
    add column updated_at timestamptz not null default now(),
    -- From here on a draft waits for its approval.
    add column ready_at timestamptz,
    add column due_at timestamptz,
    -- Voided for good: what it billed is never billed again.
    add column discarded boolean not null default false;
update invoices set created_at = issued_at, updated_at = coalesce(voided_at, issued_at);
create index invoices_by_creation on invoices (created_at, id);

alter table invoice_lines
    -- A line bills a rate card's period, or the purchase of a grant.
    alter column subscription_id drop not null,
    alter column card_key drop not null,
    add column grant_id text references grants (id),
    -- The change, exact, that the line bills of what was charged and of what credits paid; lines only.
    add column charged numeric not null default 0,
    add column credited numeric not null default 0;
create index invoice_lines_by_grant on invoice_lines (grant_id) where grant_id is not null;

-- What grants cost; one that is not here was given, or its price is not known.
create table credit_purchases (
    -- Written before the grant, in one transaction.
    grant_id text primary key references grants (id) deferrable initially deferred,
    customer_id text not null references customers (id),
    -- `invoice`: the next invoice bills it; `external`: it is paid elsewhere.
    funding_method text not null,
    currency text not null,
    cost_basis numeric not null,
    -- The price of the whole grant, in whole minor units.
    amount numeric not null,
    settlement_status text not null,
    created_at timestamptz not null default now()
);
create index credit_purchases_by_customer on credit_purchases (customer_id);
