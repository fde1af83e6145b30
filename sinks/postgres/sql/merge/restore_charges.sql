-- After the rows of undone commits were deleted: those that they had replaced, as of the commit to go back to.
with undone as (
    delete from charges_before
    where sink_part = %(part)s and sink_seq > %(sequence)s
)

insert into charges
select distinct on (customer_id, subscription_id, card_key, period_start, window_start) *
from charges_before
where sink_part = %(part)s and sink_seq <= %(sequence)s
order by customer_id, subscription_id, card_key, period_start, window_start, sink_seq desc
on conflict (customer_id, subscription_id, card_key, period_start, window_start) do nothing
