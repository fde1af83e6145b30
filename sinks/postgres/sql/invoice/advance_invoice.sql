-- A draft that was looked at waits for its approval; once is enough.
update invoices
set ready_at = clock_timestamp(), updated_at = clock_timestamp()
where id = %(id)s and status = 'draft' and ready_at is null
returning id
