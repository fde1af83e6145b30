-- From here to the end of the transaction, nobody else draws up or voids an invoice of this customer.
select current_setting('transaction_isolation') as isolation
from customers
where id = %(customer_id)s
for no key update
