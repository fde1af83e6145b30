-- What the ledger says of some customers, or of a random part of all, as Redis ought to show it.
select
    balances.customer_id, customer_key, access, settled, live, pending, overage,
    array_to_string(blocked_features, ',') as blocked_features, level, revision
from balances tablesample bernoulli (%(percent)s)
where %(ids)s::text[] is null or customer_id = any(%(ids)s)
