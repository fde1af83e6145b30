-- What a customer's grants cost, and where that is billed: on the newest invoice that stands, or was discarded.
select
    purchase.grant_id, purchase.funding_method, purchase.currency, purchase.cost_basis, purchase.amount,
    purchase.settlement_status, billed.invoice_id, billed.id as line_id
from credit_purchases purchase
left join lateral (
    select line.id, line.invoice_id
    from invoice_lines line
    join invoices on invoices.id = line.invoice_id
    where
        line.grant_id = purchase.grant_id
        and line.parent_id is null
        and (invoices.status <> 'voided' or invoices.discarded)
    order by line.id desc
    limit 1
) billed on true
where purchase.customer_id = %(customer_id)s
