-- Usage came under a subject: that stays true.
insert into used_subjects (customer_id, subject)
select customer_id, subject from stage_used_subjects
on conflict do nothing
