-- A number that no other invoice has or will have; one that is not used leaves a gap.
select nextval('invoice_number') as number, clock_timestamp() as issued_at
