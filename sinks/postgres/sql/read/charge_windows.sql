-- The windows of all billing periods, in order; those of a period add up to it.
select
    subscription_id, card_key, period_start, window_start, quantity, late_quantity, events,
    amount - commitment as amount, commitment, credits, uncovered, revision
from charges
where
    customer_id = %(customer_id)s
    and (%(feature_key)s::text is null or feature_key = %(feature_key)s)
order by window_start
