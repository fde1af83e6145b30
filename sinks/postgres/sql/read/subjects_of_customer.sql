-- The subjects that are a customer's now, its key not among them.
select subject from customer_subjects where customer_id = %(customer_id)s
