-- How a transaction of the control plane writes the catalog: an array per column, many rows at once.

-- name: upsert_meters
insert into meters (key, body)
select key, body::jsonb from unnest(%s::text[], %s::text[]) as new (key, body)
on conflict (key) do update set body = excluded.body

-- name: upsert_features
insert into features (key, body)
select key, body::jsonb from unnest(%s::text[], %s::text[]) as new (key, body)
on conflict (key) do update set body = excluded.body

-- name: insert_plans
-- A version never changes.
insert into plans (key, version, body)
select key, version, body::jsonb
from unnest(%s::text[], %s::integer[], %s::text[]) as new (key, version, body)

-- name: upsert_customers
insert into customers (id, key, body)
select id, key, body::jsonb
from unnest(%s::text[], %s::text[], %s::text[]) as new (id, key, body)
on conflict (id) do update set body = excluded.body

-- name: insert_customer_subjects
-- A subject is one customer's: it fails where another one has it.
insert into customer_subjects (subject, customer_id)
select * from unnest(%s::text[], %s::text[])

-- name: upsert_subscriptions
insert into subscriptions (id, customer_id, key, body)
select id, customer_id, key, body::jsonb
from unnest(%s::text[], %s::text[], %s::text[], %s::text[]) as new (id, customer_id, key, body)
on conflict (id) do update set key = excluded.key, body = excluded.body

-- name: upsert_grants
insert into grants (id, customer_id, key, body)
select id, customer_id, key, body::jsonb
from unnest(%s::text[], %s::text[], %s::text[], %s::text[]) as new (id, customer_id, key, body)
on conflict (id) do update set body = excluded.body

-- name: release_subjects
delete from customer_subjects where subject = any(%s)

-- name: release_subscription_keys
update subscriptions set key = null where id = any(%s)

-- name: take_subscription_keys
update subscriptions
set key = taken.key
from unnest(%s::text[], %s::text[]) as taken (id, key)
where subscriptions.id = taken.id

-- name: terms_said
-- What catalog files last said of the subscriptions of some customers.
select customer_id, key, terms from applied_subscriptions where customer_id = any(%s)

-- name: say_terms
insert into applied_subscriptions (customer_id, key, terms)
select * from unnest(%s::text[], %s::text[], %s::jsonb[])
on conflict (customer_id, key) do update set terms = excluded.terms, applied_at = now()

-- name: plans_said
-- What catalog files last said of some plans.
select key, body::text from applied_plans where key = any(%s)

-- name: say_plans
insert into applied_plans (key, body)
select * from unnest(%s::text[], %s::jsonb[])
on conflict (key) do update set body = excluded.body, applied_at = now()
