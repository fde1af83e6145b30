-- Grants to be paid for that no invoice has billed. A voided invoice has billed nothing, unless it was discarded.
select
    purchase.grant_id, purchase.currency, purchase.amount, purchase.created_at, granted.body ->> 'name' as name,
    (granted.body ->> 'effective_at')::timestamptz as effective_at,
    (granted.body ->> 'expires_at')::timestamptz as expires_at
from credit_purchases purchase
join grants granted on granted.id = purchase.grant_id
where
    purchase.customer_id = %(customer_id)s
    and purchase.funding_method = 'invoice'
    and (%(as_of)s::timestamptz is null or purchase.created_at < %(as_of)s)
    and not exists (
        select from invoice_lines line
        join invoices on invoices.id = line.invoice_id
        where line.grant_id = purchase.grant_id and (invoices.status <> 'voided' or invoices.discarded)
    )
order by purchase.created_at, purchase.grant_id
