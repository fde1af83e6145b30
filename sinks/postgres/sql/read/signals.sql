-- What the customer was signalled, the newest first.
select id, customer_id, customer_key, sequence, kind, feature_key, reason, live, revision, raised_at
from signals
where
    customer_key = %(customer_key)s
    and (%(kind)s::text is null or kind = %(kind)s)
order by sequence desc
limit %(limit)s
