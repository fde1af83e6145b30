-- The customer's balance as the newest revision has it; none before the first.
select
    customer_id, customer_key, currency, funded, settled, live, pending, overage, consumed, expired, voided,
    uncovered, charged, access, reason, level, threshold, blocked_features, revision, as_of
from balances
where customer_id = %(customer_id)s
