-- Invoices with their stored totals, the newest first unless asked otherwise. A condition that is null holds.
select
    invoices.id, invoices.number, invoices.status, invoices.currency, invoices.customer_id,
    customers.key as customer_key, customers.body ->> 'name' as customer_name,
    invoices.amount, invoices.discounts, invoices.charges, invoices.credits, invoices.overage, invoices.total,
    invoices.period_start, invoices.period_end, invoices.as_of, invoices.created_at, invoices.updated_at,
    invoices.ready_at, invoices.issued_at, invoices.due_at, invoices.voided_at, invoices.discarded
from invoices
join customers on customers.id = invoices.customer_id
where
    (%(customer_ids)s::text[] is null or invoices.customer_id = any(%(customer_ids)s))
    and (%(reference)s::text is null or invoices.id = %(reference)s or invoices.number = %(reference)s)
    and (%(statuses)s::text[] is null or invoices.status = any(%(statuses)s))
    and (%(issued_after)s::timestamptz is null or invoices.issued_at >= %(issued_after)s)
    and (%(issued_before)s::timestamptz is null or invoices.issued_at <= %(issued_before)s)
    and (%(created_after)s::timestamptz is null or invoices.created_at >= %(created_after)s)
    and (%(created_before)s::timestamptz is null or invoices.created_at <= %(created_before)s)
    and (
        %(awaits_approval)s::boolean is null
        or invoices.status <> 'draft'
        or (invoices.ready_at is not null) = %(awaits_approval)s
    )
order by
    case when %(oldest_first)s then invoices.created_at end, case when %(oldest_first)s then invoices.id end,
    invoices.created_at desc, invoices.id desc
limit %(limit)s offset %(offset)s
