-- What of rated events no feature prices, by meter and by what its dimensions are, the most first.
select
    meter,
    dimensions,
    count(*) as events,
    -- Told only where it can be told for each event.
    case when count(quantity) = count(*) then sum(quantity) end as quantity,
    min(event_time) as since,
    max(event_time) as until,
    count(distinct customer_id) as customer_count,
    (array_agg(distinct coalesce(customers.key, customer_id)))[:%(customers_max)s] as customers
from parked_events
left join customers on customers.id = customer_id
where
    reason = 'unpriced'
    and (%(customer_id)s::text is null or customer_id = %(customer_id)s)
    and (%(meter)s::text is null or meter = %(meter)s)
group by meter, dimensions
order by events desc, meter, dimensions
limit %(limit)s
