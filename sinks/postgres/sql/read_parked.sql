-- How many events wait, by reason; from the index alone.
select reason, count(*) from parked_events group by reason
