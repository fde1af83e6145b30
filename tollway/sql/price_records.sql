-- The control records that priced the customer's periods: its subscriptions, and the versions of plans they are on.
select body::text as body
from subscriptions
where customer_id = %(customer_id)s
union all
select plans.body::text
from plans
where (plans.key, plans.version) in (
    select subscriptions.body ->> 'plan_key', (subscriptions.body ->> 'plan_version')::integer
    from subscriptions
    where subscriptions.customer_id = %(customer_id)s
)
