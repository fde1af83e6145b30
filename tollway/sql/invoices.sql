-- Invoices with their stored totals, the newest first: those of one customer, or the one with this id or number.
select
    invoices.id, invoices.number, invoices.status, invoices.currency, invoices.customer_id,
    customers.key as customer_key, customers.body ->> 'name' as customer_name,
    invoices.amount, invoices.discounts, invoices.charges, invoices.credits, invoices.total,
    invoices.period_start, invoices.period_end, invoices.as_of, invoices.issued_at, invoices.voided_at
from invoices
join customers on customers.id = invoices.customer_id
where
    (%(customer_id)s::text is null or invoices.customer_id = %(customer_id)s)
    and (%(reference)s::text is null or invoices.id = %(reference)s or invoices.number = %(reference)s)
    and (%(status)s::text is null or invoices.status = %(status)s)
order by invoices.issued_at desc, invoices.id desc
limit %(limit)s offset %(offset)s
