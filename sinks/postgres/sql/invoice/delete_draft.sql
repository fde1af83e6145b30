-- A draft goes with its lines: what it would have billed is billable again from this transaction on.
with gone as (
    delete from invoice_lines
    where invoice_id = (select id from invoices where id = %(id)s and status = 'draft')
)
delete from invoices
where id = %(id)s and status = 'draft'
returning id
