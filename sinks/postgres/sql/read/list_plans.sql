-- Published versions of plans, by key and version.
select p.body::text as body, p.published_at
from plans as p
where %(plan)s::text is null or p.key = %(plan)s
order by p.key, p.version
limit %(limit)s
