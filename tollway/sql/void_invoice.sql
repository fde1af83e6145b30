-- Voided once, and for good: what it billed is billable again from this transaction on.
update invoices
set status = 'voided', voided_at = clock_timestamp()
where id = %(id)s and status <> 'voided'
