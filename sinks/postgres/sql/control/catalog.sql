-- The catalog as one transaction reads it.

-- name: meter_of_key
select body::text from meters where key = %s

-- name: feature_of_key
select body::text from features where key = %s

-- name: feature_keys
select key from features

-- name: versions_of_plan
select body::text from plans where key = %s order by version

-- name: plans_of_keys
select body::text from plans where key = any(%s)

-- name: customer_of_id
select body::text from customers where id = %s

-- name: customer_of_key
select id, body::text from customers where key = %s

-- name: customers_of_keys
select id, key, body::text from customers where key = any(%s)

-- name: customers_of_ids
select body::text, created_at from customers where id = any(%s)

-- name: customer_keys_of_ids
select id, key from customers where id = any(%s)

-- name: customer_id_of
-- The customer with this id, else the one with this key.
select id from customers where id = %s or key = %s order by id = %s desc limit 1

-- name: known_customers
-- Those of some texts that a customer has in a column.
select {column} from customers where {column} = any(%s)

-- name: has_customers
select exists (select from customers)

-- name: owner_of_subject
select customer_id from customer_subjects where subject = %s

-- name: owners_of_subjects
select subject, customer_id from customer_subjects where subject = any(%s)

-- name: customer_of_subscription
select customer_id from subscriptions where id = %s

-- name: subscriptions_of_customers
select customer_id, key, body::text from subscriptions where customer_id = any(%s) order by id

-- name: current_subscriptions
-- By customer, the subscription that is active at an instant.
select customer_id, max(id)
from subscriptions
where
    customer_id = any(%s)
    and (body ->> 'active_from')::timestamptz <= %s
    and coalesce((body ->> 'active_to')::timestamptz > %s, true)
group by customer_id

-- name: grant_of_id
select body::text from grants where id = %s

-- name: grant_of_key
select body::text from grants where customer_id = %s and key = %s

-- name: grants_with_keys
select body::text from grants where customer_id = any(%s) and key is not null

-- name: has_grants
select from grants where customer_id = %s limit 1

-- name: paid_by_grant
-- What the ledger has of a grant's use so far.
select coalesce(sum(amount), 0) from credit_entries where customer_id = %s and grant_id = %s

-- name: waiting_by_meter
-- Events of a customer between two instants that wait for a price or a feature, by what they are of.
select event_type, meter, count(*), min(event_time)
from parked_events
where
    customer_id = %s
    and reason in ('unpriced', 'no_feature')
    and event_time >= %s
    and event_time < %s
group by event_type, meter
