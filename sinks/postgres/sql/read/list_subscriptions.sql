-- Subscriptions of all customers, or of one, by the customer's key, the oldest first.
select s.body::text as body, s.key, c.key as customer_key
from subscriptions as s
inner join customers as c on c.id = s.customer_id
where %(customer_id)s::text is null or s.customer_id = %(customer_id)s
order by c.key, s.body ->> 'active_from', s.id
limit %(limit)s
