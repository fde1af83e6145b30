-- How many events wait, by reason, and how many parts of rated ones, by their meter too; from an index alone.
select reason, meter, count(*) from parked_events group by reason, meter order by count(*) desc, reason, meter
