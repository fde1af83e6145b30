-- Customers by key, deleted ones among them, with what is left to them as the newest revision has it.
select
    c.id, c.key, c.body::text as body, c.created_at,
    coalesce(b.live, 0) as live, coalesce(b.access, 'allowed') as access
from customers as c
left join balances as b on b.customer_id = c.id
where %(all)s or c.body ->> 'deleted_at' is null
order by c.key
limit %(limit)s
