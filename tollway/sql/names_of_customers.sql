-- Who has, or ever had, one of these subjects or keys, with all subjects and keys that customer ever had.
with named as (
    select customer_id, body ->> 'key' as name from control_log where kind in ('customer', 'Customer')
    union
    select customer_id, subject
    from control_log, jsonb_array_elements_text(coalesce(body -> 'subjects', '[]'::jsonb)) as subject
    where kind in ('customer', 'Customer')
)
select customer_id as id, array_agg(name order by name) as names
from named
where customer_id in (select customer_id from named where name = any(%(subjects)s))
group by customer_id
order by customer_id
