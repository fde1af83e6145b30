-- Written in the transaction of its lines, under the lock of its customer.
insert into invoices (
    id, number, customer_id, currency, status, amount, discounts, charges, credits, overage, total, period_start, period_end, as_of,
    created_at, updated_at, issued_at, due_at
)
values (
    %(id)s, %(number)s, %(customer_id)s, %(currency)s, %(status)s, %(amount)s, %(discounts)s, %(charges)s, %(credits)s,
    %(overage)s, %(total)s, %(period_start)s, %(period_end)s, %(as_of)s, %(created_at)s, %(created_at)s, %(issued_at)s, %(due_at)s
)
