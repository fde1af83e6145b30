-- Every movement that the absolute rows imply, each once, in the order of ids; each starts from the balance where the one
-- before it ended. An id begins with the instant and the type, so it sorts as the movements do.
with granted as (
    select * from unnest(%(grant_ids)s::text[], %(names)s::text[], %(funded_at)s::timestamptz[])
        as granted (grant_id, name, funded_at)
),
movements as (
    select grant_id, type, null as feature_key, null::timestamptz as window_start, booked_at, amount
    from unnest(%(moved)s::text[], %(types)s::text[], %(booked_at)s::timestamptz[], %(amounts)s::numeric[])
        as moved (grant_id, type, booked_at, amount)
    union all
    -- A window may have begun before the grant was there: the grant pays from then on.
    select grant_id, 'consumed', feature_key, window_start, greatest(window_start, funded_at), -sum(amount)
    from credit_entries
    join granted using (grant_id)
    where customer_id = %(customer_id)s
    group by grant_id, feature_key, window_start, funded_at
    having sum(amount) <> 0
),
identified as (
    select
        concat_ws(
            '-',
            to_char(booked_at at time zone 'UTC', 'YYYYMMDD"T"HH24MISSUS"Z"'),
            array_position(array['funded', 'consumed', 'expired', 'voided'], type),
            grant_id,
            to_char(window_start at time zone 'UTC', 'YYYYMMDD"T"HH24MISS"Z"'),
            feature_key
        ) collate "C" as id,
        *
    from movements
),
running as (
    select *, sum(amount) over (order by id rows unbounded preceding) as after
    from identified
)
select id, type, grant_id, name, feature_key, window_start, booked_at, amount, after - amount as before, after
from running
join granted using (grant_id)
where
    (
        %(cursor)s::text is null
        or case when %(newest_first)s then id < %(cursor)s else id > %(cursor)s end
    )
    and (%(type)s::text is null or type = %(type)s)
    and (%(feature_key)s::text is null or feature_key = %(feature_key)s)
order by case when %(newest_first)s then id end desc, id
limit %(limit)s
