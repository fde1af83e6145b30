-- A draft is issued once: from here on it has its number, and is due.
update invoices
set
    status = 'issued', number = %(number)s, issued_at = %(issued_at)s, due_at = %(due_at)s, updated_at = %(issued_at)s
where id = %(id)s and status = 'draft'
returning id
