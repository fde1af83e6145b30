-- Another history begins, above all that went before.
insert into generations (number, history, why, control_version, read_from)
select
    greatest(
        (extract(epoch from clock_timestamp()) * 1000)::bigint,
        (select coalesce(max(number), 0) + 1 from generations),
        %(above)s::bigint + 1
    ),
    gen_random_uuid()::text,
    %(why)s,
    (select coalesce(max(id), 0) from control_log),
    %(read_from)s
returning number, history
