-- At most one customer: the one with this id, else the one with this key.
select id, key, body ->> 'name' as name, body ->> 'currency' as currency, clock_timestamp() as read_at
from customers
where id = %(customer)s or key = %(customer)s
order by id = %(customer)s desc
limit 1
