-- What the ledger has of a rate card's billing period, window by window, in the order of `ChargeRow`.
select
    customer_id, subscription_id, card_key, period_start, window_start, feature_key, period_end, full_start, full_end,
    currency, settlement_mode, quantity, late_quantity, events, amount, commitment, credits, uncovered, paid::text,
    closed, revision, parts::text, was_left
from charges
where
    customer_id = %(customer_id)s
    and subscription_id = %(subscription_id)s
    and card_key = %(card_key)s
    and period_start = %(period_start)s
order by window_start
