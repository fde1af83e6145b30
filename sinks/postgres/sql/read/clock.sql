-- The present instant by the database's clock, not that at which the transaction began.
select clock_timestamp() as now
