-- How many invoices `invoices.sql` finds in all.
select count(*) as found
from invoices
where
    (%(customer_ids)s::text[] is null or invoices.customer_id = any(%(customer_ids)s))
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
