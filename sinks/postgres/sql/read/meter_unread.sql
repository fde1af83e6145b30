-- A feature of a meter with usage under a subscription that has no feature with all of it; `others` share usage.
select charges.feature_key
from charges
where
    charges.feature_key = any(%(others)s)
    and charges.events > 0
    and (%(customers)s::text[] is null or charges.customer_id = any(%(customers)s))
    and not exists (
        select from charges covered
        where
            covered.customer_id = charges.customer_id
            and covered.subscription_id = charges.subscription_id
            and covered.feature_key = any(%(features)s)
    )
limit 1
