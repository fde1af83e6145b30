-- Lines and details of some invoices, each line before its details, in the order of the invoice.
select
    id, invoice_id, parent_id, subscription_id, card_key, feature_key, grant_id, name, category, period_start, period_end,
    quantity, metered_quantity, unit_price, flat_price, rate_card, amount, discounts, charges, credits, overage, total, charged,
    credited, usage_after, credits_after, closed
from invoice_lines
where invoice_id = any(%(invoice_ids)s)
order by invoice_id, position
