-- How much of each billing period has been billed. A voided invoice has billed nothing, unless it was discarded.
select
    line.subscription_id, line.card_key, line.period_start,
    sum(line.quantity) as quantity, sum(line.metered_quantity) as metered_quantity,
    sum(line.charged) as charged, sum(line.credited) as credited
from invoices
join invoice_lines line on line.invoice_id = invoices.id and line.parent_id is null
where
    invoices.customer_id = %(customer_id)s
    and (invoices.status <> 'voided' or invoices.discarded)
    and line.grant_id is null
group by line.subscription_id, line.card_key, line.period_start
