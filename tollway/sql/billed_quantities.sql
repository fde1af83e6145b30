-- How much of each billing period the invoices that stand have billed: a voided invoice has billed nothing.
select
    line.subscription_id, line.card_key, line.period_start,
    sum(line.quantity) as quantity, sum(line.metered_quantity) as metered_quantity
from invoices
join invoice_lines line on line.invoice_id = invoices.id and line.parent_id is null
where invoices.customer_id = %(customer_id)s and invoices.status <> 'voided'
group by line.subscription_id, line.card_key, line.period_start
