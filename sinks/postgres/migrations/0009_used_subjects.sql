-- Which subjects a customer's usage came under. The ledger has usage by customer: where all came under one subject, it is
-- that subject's.
create table used_subjects (
    customer_id text not null,
    subject text not null,
    primary key (customer_id, subject)
);

-- What was rated before this table was there may have come under any name that the customer ever had.
insert into used_subjects (customer_id, subject)
select distinct named.customer_id, named.subject
from (
    select customer_id, body ->> 'key' as subject from control_log where kind in ('customer', 'Customer')
    union
    select customer_id, subject
    from control_log, jsonb_array_elements_text(coalesce(body -> 'subjects', '[]'::jsonb)) as subject
    where kind in ('customer', 'Customer')
) named
where named.subject is not null and exists (select from balances where balances.customer_id = named.customer_id);
