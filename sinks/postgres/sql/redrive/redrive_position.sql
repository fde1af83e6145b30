-- From where looks go on; at the very first start from the newest entry, since all rows of before are unseen.
insert into redrive_position (looking_to, looked_to)
select coalesce(max(id), 0), coalesce(max(id), 0) from control_log
on conflict (one_row) do update set one_row = redrive_position.one_row
returning looked_to
