-- Refused bytes, the newest first, each once per reason and meter.
select encode(digest, 'hex') as digest, reason, meter, message, path, recorded_at, raw
from dead_letters
where
    (%(reason)s::text is null or reason = %(reason)s)
    and (%(since)s::timestamptz is null or recorded_at >= %(since)s)
order by recorded_at desc, digest, meter
limit %(limit)s
