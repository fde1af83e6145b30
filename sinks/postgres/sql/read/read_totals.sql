-- What the ledger holds by currency. A customer is unbalanced where its money does not add up to the last digit.
select
    currency,
    sum(charged),
    sum(consumed),
    sum(uncovered),
    sum(live),
    count(*) filter (where access = 'allowed'),
    count(*) filter (where access = 'blocked'),
    count(*) filter (
        where charged <> consumed + uncovered or funded <> settled + pending + consumed + expired + voided
    )
from balances
group by currency
