-- Customers whose usage came under one of these subjects, with all subjects that it came under.
select customer_id as id, array_agg(subject order by subject) as subjects
from used_subjects
where customer_id in (select customer_id from used_subjects where subject = any(%(subjects)s))
group by customer_id
order by customer_id
