-- Things of the catalog with what people wrote on them.

-- name: noted
-- `condition` says which things, and in which order.
select found.key, found.body::text, found.created_at, notes.body::text, notes.updated_at
from {table} as found
left join api_notes as notes on notes.kind = '{kind}' and notes.ref = found.{ref}
{condition}

-- name: noted_in_order
order by found.key

-- name: noted_of_id
where found.id = %s

-- name: noted_of_id_or_key
where found.id = %s or found.key = %s
order by found.id = %s desc
limit 1

-- name: noted_of_customer
where found.customer_id = %s
order by found.id

-- name: noted_by_filters
where {filters}
order by found.id

-- name: noted_page_of_customers
where {filters} and (%s or found.body ->> 'deleted_at' is null)
order by found.id
limit %s
offset %s

-- name: number_of_noted_customers
select count(*)
from customers as found
left join api_notes as notes on notes.kind = 'customer' and notes.ref = found.id
where {filters} and (%s or found.body ->> 'deleted_at' is null)

-- name: write_note
insert into api_notes (kind, ref, body)
values (%s, %s, %s::jsonb)
on conflict (kind, ref) do update set body = excluded.body, updated_at = now()
returning ref
