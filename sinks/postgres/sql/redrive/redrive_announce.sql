-- Looks for the entries up to here begin: whoever parks under an older catalog from now on says that the row is unseen.
insert into redrive_position (looking_to, looked_to) values (%(noted_to)s, %(noted_to)s)
on conflict (one_row) do update set looking_to = greatest(redrive_position.looking_to, excluded.looking_to)
