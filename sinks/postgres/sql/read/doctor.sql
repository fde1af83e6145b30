-- What is counted to see whether all is well.

-- name: health_of_ledger
-- Events and parts of events that wait, dead letters, and customers whose balance does not add up.
select
    (select count(*) from parked_events where meter = ''),
    (select count(*) from parked_events where meter <> ''),
    (select count(*) from dead_letters),
    (
        select count(*)
        from balances
        where
            charged <> consumed + uncovered
            or funded <> settled + pending + consumed + expired + voided
    )

-- name: number_of_balances
select count(*) from balances

-- name: events_rated_at_least
-- How many events every period of usage has; 0 where there is none.
select coalesce(min(events), 0) from usage_periods
