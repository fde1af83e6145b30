-- A deletion is a fact of the catalog, and what a catalog file last said about a subscription is remembered.

-- The terms of each subscription that a file named, as it last said them: a file that says them again changes
-- nothing, whatever became of the subscription meanwhile.
create table applied_subscriptions (
    customer_id text not null references customers (id),
    key text not null,
    terms jsonb not null,
    applied_at timestamptz not null default now(),
    primary key (customer_id, key)
);

-- No control entry may be written meanwhile: their ids have to become visible in order.
lock table control_log in share row exclusive mode;

-- Deletions were noted beside the catalog. A subscription that such a customer was given afterwards ends now.
with ended as (
    update subscriptions
    set body = jsonb_set(
        subscriptions.body,
        '{active_to}',
        to_jsonb(to_char(
            greatest(now(), (subscriptions.body ->> 'active_from')::timestamptz) at time zone 'UTC',
            'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
        ))
    )
    from api_notes as note
    where note.kind = 'customer'
        and note.ref = subscriptions.customer_id
        and note.body ? 'deleted_at'
        and coalesce((subscriptions.body ->> 'active_to')::timestamptz, 'infinity')
            > greatest(now(), (subscriptions.body ->> 'active_from')::timestamptz)
    returning subscriptions.id, subscriptions.customer_id, subscriptions.body
)
insert into control_log (kind, key_group, customer_id, body)
select
    'subscription',
    (select min(entry.key_group) from control_log as entry where entry.customer_id = ended.customer_id),
    ended.customer_id,
    ended.body
from ended
order by ended.id;

with deleted as (
    update customers
    set body = customers.body || jsonb_build_object(
        'subjects', '[]'::jsonb,
        'recorded_at', note.body ->> 'deleted_at',
        'deleted_at', note.body ->> 'deleted_at'
    )
    from api_notes as note
    where note.kind = 'customer' and note.ref = customers.id and note.body ? 'deleted_at'
    returning customers.id, customers.body
)
insert into control_log (kind, key_group, customer_id, body)
select
    'customer',
    (select min(entry.key_group) from control_log as entry where entry.customer_id = deleted.id),
    deleted.id,
    deleted.body
from deleted
order by deleted.id;

delete from customer_subjects
using customers
where customer_subjects.customer_id = customers.id and customers.body ->> 'deleted_at' is not null;

update api_notes set body = body - 'deleted_at'
where kind = 'customer' and body ? 'deleted_at';
