-- What has been billed of each billing period, by detail. A voided invoice has billed nothing, unless it was discarded.
select
    line.subscription_id, line.card_key, line.period_start, line.name, line.category, line.unit_price, line.flat_price,
    sum(line.quantity) as quantity, sum(line.amount) as amount, sum(line.charges) as charges,
    sum(line.discounts) as discounts, sum(line.credits) as credits,
    sum(line.overage) as overage
from invoices
join invoice_lines line on line.invoice_id = invoices.id and line.parent_id is not null
where
    invoices.customer_id = %(customer_id)s
    and (invoices.status <> 'voided' or invoices.discarded)
    and line.grant_id is null
group by
    line.subscription_id, line.card_key, line.period_start, line.name, line.category, line.unit_price, line.flat_price
order by min(line.id)
