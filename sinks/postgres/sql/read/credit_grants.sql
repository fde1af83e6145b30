-- Every grant the customer ever got, with what it has paid in all.
select granted.body::text as body, coalesce(paid.amount, 0) as consumed
from grants granted
left join (
    select grant_id, sum(amount) as amount
    from credit_entries
    where customer_id = %(customer_id)s
    group by grant_id
) paid on paid.grant_id = granted.id
where granted.customer_id = %(customer_id)s
