-- A line, or a detail of the line `parent_id`; positions count both, in the order of the invoice.
insert into invoice_lines (
    id, invoice_id, parent_id, position, subscription_id, card_key, feature_key, grant_id, name, category, period_start,
    period_end, quantity, metered_quantity, unit_price, flat_price, rate_card, amount, discounts, charges, credits, overage, total,
    charged, credited, usage_after, credits_after, closed
)
values (
    %(id)s, %(invoice_id)s, %(parent_id)s, %(position)s, %(subscription_id)s, %(card_key)s, %(feature_key)s, %(grant_id)s,
    %(name)s, %(category)s, %(period_start)s, %(period_end)s, %(quantity)s, %(metered_quantity)s, %(unit_price)s,
    %(flat_price)s, %(rate_card)s::jsonb, %(amount)s, %(discounts)s, %(charges)s, %(credits)s, %(overage)s, %(total)s, %(charged)s,
    %(credited)s, %(usage_after)s, %(credits_after)s, %(closed)s
)
