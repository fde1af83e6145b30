-- The control records that priced the customer's periods: its subscriptions, the versions of plans they are on, and the
-- features that these have a price for.
with held as (
    select body
    from subscriptions
    where customer_id = %(customer_id)s
),
versions as (
    select body
    from plans
    where (plans.key, plans.version) in (
        select held.body ->> 'plan_key', (held.body ->> 'plan_version')::integer from held
        union all
        select held.body ->> 'plan_key', (move ->> 'plan_version')::integer
        from held, jsonb_array_elements(held.body -> 'moves') as move
    )
)
select body::text as body from held
union all
select body::text from versions
union all
select features.body::text
from features
where features.key in (
    select card ->> 'feature_key'
    from versions,
        jsonb_array_elements(versions.body -> 'phases') as phase,
        jsonb_array_elements(phase -> 'rate_cards') as card
)
