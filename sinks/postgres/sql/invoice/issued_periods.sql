-- How much of what each billing period was charged is on invoices that went out, or is never to be billed.
select line.subscription_id, line.card_key, line.period_start, sum(line.charged) as charged
from invoices
join invoice_lines line on line.invoice_id = invoices.id and line.parent_id is null
where
    invoices.customer_id = %(customer_id)s
    and (invoices.status = 'issued' or (invoices.status = 'voided' and invoices.discarded))
    and line.grant_id is null
group by line.subscription_id, line.card_key, line.period_start
