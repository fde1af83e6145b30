-- Customers whose charges, credits or purchases differ from what has been billed, by key; and how many there are. A period
-- that came to nothing, as one with a discount of all of it, is to be billed too.
with billed as (
    select invoices.customer_id, sum(line.charged) as charged, sum(line.credited) as credited
    from invoices
    join invoice_lines line on line.invoice_id = invoices.id and line.parent_id is null
    where
        (invoices.status <> 'voided' or invoices.discarded)
        and (%(customer_ids)s::text[] is null or invoices.customer_id = any(%(customer_ids)s))
    group by invoices.customer_id
)
select customers.id, count(*) over () as found
from customers
left join balances on balances.customer_id = customers.id
left join billed on billed.customer_id = customers.id
where
    (%(customer_ids)s::text[] is null or customers.id = any(%(customer_ids)s))
    and (
        coalesce(balances.charged, 0) <> coalesce(billed.charged, 0)
        or coalesce(balances.consumed, 0) <> coalesce(billed.credited, 0)
        or exists (
            select from charges
            where
                charges.customer_id = customers.id
                and charges.amount = 0
                and charges.credits = 0
                and not exists (
                    select from invoice_lines line
                    join invoices on invoices.id = line.invoice_id
                    where
                        line.subscription_id = charges.subscription_id
                        and line.card_key = charges.card_key
                        and line.period_start = charges.period_start
                        and (invoices.status <> 'voided' or invoices.discarded)
                )
        )
        or exists (
            select from credit_purchases purchase
            where
                purchase.customer_id = customers.id
                and purchase.funding_method = 'invoice'
                and not exists (
                    select from invoice_lines line
                    join invoices on invoices.id = line.invoice_id
                    where line.grant_id = purchase.grant_id and (invoices.status <> 'voided' or invoices.discarded)
                )
        )
    )
order by customers.key
limit %(limit)s offset %(offset)s
