-- What was counted through some features, by subscription and billing period: all that the ledger knows of a meter that
-- does not add up.
select
    customer_id, subscription_id, feature_key, period_start, max(period_end) as period_end, sum(quantity) as value,
    sum(events)::bigint as events
from charges
where
    feature_key = any(%(features)s)
    and events > 0
    and (%(customers)s::text[] is null or customer_id = any(%(customers)s))
group by customer_id, subscription_id, card_key, feature_key, period_start
order by period_start, customer_id, feature_key
