-- One row for each rate card and billing period, in order of the periods; beside it, from the same snapshot, what the
-- customer's balance says was charged, and consumed of credits, in all.
select
    customer_id, subscription_id, card_key, feature_key, period_start, period_end, full_start, full_end,
    currency, settlement_mode, case when closed then 'closed' else 'active' end as status,
    usage, events, amount, commitment, credits, uncovered, revision,
    (select charged from balances where customer_id = %(customer_id)s) as charged_in_all,
    (select consumed from balances where customer_id = %(customer_id)s) as consumed_in_all
from usage_periods
where
    customer_id = %(customer_id)s
    and (%(feature_key)s::text is null or feature_key = %(feature_key)s)
    and (%(closed)s::boolean is null or closed = %(closed)s)
order by period_start, subscription_id collate "C", card_key collate "C"
