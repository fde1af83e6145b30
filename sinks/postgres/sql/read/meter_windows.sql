-- What was counted through some features, by window of the ledger, and by customer and feature where that is asked for.
-- Features in `whole` have all usage of the meter: of a subscription with several of them one is taken, and none else.
-- The others share no usage, and add up.
with used as (
    select customer_id, subscription_id, feature_key, period_start, window_start, quantity
    from charges
    where
        feature_key = any(%(features)s)
        and events > 0
        and (%(customers)s::text[] is null or customer_id = any(%(customers)s))
),
ways as (
    select subscription_id, bool_or(feature_key = any(%(whole)s)) as has_whole
    from used
    group by subscription_id
),
counted as (
    select customer_id, '' as feature_key, window_start, max(quantity) as quantity
    from used
    join ways using (subscription_id)
    where has_whole and feature_key = any(%(whole)s)
    group by customer_id, subscription_id, period_start, window_start
    union all
    select customer_id, feature_key, window_start, quantity
    from used
    join ways using (subscription_id)
    where not has_whole
)
select
    case when %(by_customer)s then customer_id end as customer_id,
    case when %(by_feature)s then feature_key end as feature_key,
    date_trunc(%(unit)s, window_start at time zone 'UTC') at time zone 'UTC' as start,
    sum(quantity) as value
from counted
where
    (%(from)s::timestamptz is null or window_start >= %(from)s)
    and (%(to)s::timestamptz is null or window_start < %(to)s)
group by 1, 2, 3
order by 3, 1, 2
