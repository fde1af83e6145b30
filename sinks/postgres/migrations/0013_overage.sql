-- What no credit covered under `credit_only` is a figure of its own on invoices. Before, it was shown as credits.

alter table invoices
    add column overage numeric not null default 0;

alter table invoice_lines
    add column overage numeric not null default 0;

-- A line counts, exact, what credits paid of it: that stays, rounded as the amounts beside it are, and the rest is overage.
-- What the invoice comes to stays the same.
with lines as (
    select
        line.id, line.credits,
        greatest(least(line.credits, round(line.credited, scale(line.credits))), 0) as paid
    from invoice_lines line
    join subscriptions on subscriptions.id = line.subscription_id
    where
        line.parent_id is null and line.credits > 0 and line.total = 0
        and subscriptions.body ->> 'settlement_mode' = 'credit_only'
),
parts as (
    -- Credits cover the details of a line in their order.
    select
        detail.id, detail.credits,
        greatest(
            least(detail.credits, lines.paid - coalesce(sum(detail.credits) over (
                partition by detail.parent_id order by detail.position rows between unbounded preceding and 1 preceding
            ), 0)),
            0
        ) as paid
    from invoice_lines detail
    join lines on lines.id = detail.parent_id
)
update invoice_lines
set credits = found.paid, overage = found.credits - found.paid
from (select * from lines union all select * from parts) found
where invoice_lines.id = found.id;

update invoices
set credits = invoices.credits - lines.overage, overage = lines.overage
from (
    select invoice_id, sum(overage) as overage from invoice_lines where parent_id is null group by invoice_id
) lines
where lines.invoice_id = invoices.id and lines.overage <> 0;
