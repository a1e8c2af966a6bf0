-- pawl:destructive
-- Drops the tokens of e-mail verifications that are on their way; users stay.
drop index if exists reporting."users_emailVerificationToken_idx";
alter table reporting.users drop column if exists "emailVerificationToken", drop column if exists "emailVerificationExpiry";
