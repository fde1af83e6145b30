-- Conditions on a column, as filters of lists ask for them, and the rows of which a customer may have several.

-- name: is_one_of
{column} = any(%s)

-- name: is_another
{column} is distinct from %s

-- name: contains_one_of
exists (select from unnest(%s::text[]) as part where strpos(lower({column}), lower(part)) > 0)

-- name: is_there
{column} is not null

-- name: is_not_there
{column} is null

-- name: compares
-- By code points.
{column} {operator} %s collate "C"

-- name: one_holds
exists ({rows})

-- name: none_holds
not exists ({rows})

-- name: subjects_named
select from jsonb_array_elements_text(found.body -> 'subjects') as named (subject)
where true

-- name: subjects_owned
-- A customer's key is a subject too.
select from customer_subjects as named
where named.customer_id = found.id

-- name: active_subscriptions
select from subscriptions as held
where
    held.customer_id = found.id
    and (held.body ->> 'active_from')::timestamptz <= now()
    and coalesce((held.body ->> 'active_to')::timestamptz > now(), true)
