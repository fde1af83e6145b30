-- How far a payment that is made elsewhere has come.
update credit_purchases
set settlement_status = %(status)s
where grant_id = %(grant_id)s and funding_method = 'external'
returning grant_id
