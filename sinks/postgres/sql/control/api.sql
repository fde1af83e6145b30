-- What the API keeps beside the catalog: drafts of plans, what credits cost, and its keys.

-- name: sent_plans
-- Plans as they were sent, those of one key or all, drafts too.
select key, version, id, body::text, created_at, updated_at, published_at
from api_plans
where %s::text is null or key = %s
order by id desc

-- name: published_plans
select key, version, body::text, published_at
from plans
where %s::text is null or key = %s
order by key, version

-- name: plan_of_id
select key, version from api_plans where id = %s

-- name: draft_of_plan
select id from api_plans where key = %s and published_at is null

-- name: lock_plan
select key, published_at, body::text from api_plans where id = %s for update

-- name: insert_plan_draft
insert into api_plans (id, key, version, body)
values (%s, %s, %s, %s::jsonb)
returning id

-- name: replace_plan_draft
update api_plans set body = %s::jsonb, updated_at = now() where id = %s returning id

-- name: publish_plan_draft
update api_plans set published_at = now(), updated_at = now(), version = %s where id = %s returning id

-- name: delete_plan_draft
delete from api_plans where id = %s and published_at is null returning id

-- name: insert_purchase
insert into credit_purchases (
    grant_id, customer_id, funding_method, currency, cost_basis, amount, settlement_status
)
values (%s, %s, %s, %s, %s, %s, 'pending')
returning grant_id

-- name: insert_key
insert into api_keys (id, name, role, digest)
values (%s, %s, %s, %s)
returning id, name, role, created_at, revoked_at

-- name: keys_in_order
select id, name, role, created_at, revoked_at from api_keys order by created_at, id

-- name: revoke_key
-- One that was revoked stays revoked since then.
update api_keys
set revoked_at = coalesce(revoked_at, now())
where id = %s
returning id, name, role, created_at, revoked_at

-- name: valid_keys
select id, role, digest from api_keys where revoked_at is null order by id

-- name: number_of_keys
-- Changes whenever a key is made or revoked.
select count(*), count(revoked_at) from api_keys
