-- An event may lack the value of one meter, or of several, and be rated for the others: empty where all of it was refused.
alter table dead_letters add column meter text not null default '';
alter table dead_letters drop constraint dead_letters_pkey;
alter table dead_letters add primary key (digest, reason, meter);
