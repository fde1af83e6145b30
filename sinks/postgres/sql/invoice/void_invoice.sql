-- Voided once, and for good: what it billed is billable again from this transaction on, unless it is discarded.
update invoices
set status = 'voided', voided_at = clock_timestamp(), updated_at = clock_timestamp(), discarded = %(discard)s
where id = %(id)s and status <> 'voided'
