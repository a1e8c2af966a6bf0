-- Document 004: a user's e-mail address is verified with a token that expires. Its camel-case names stay; safe to run again.
-- Locks: ADD COLUMN takes ACCESS EXCLUSIVE for an instant; the index is built under SHARE, over a column that is still empty.
alter table reporting.users
  add column if not exists "emailVerificationToken" text,
  add column if not exists "emailVerificationExpiry" timestamp(3);
--> statement-breakpoint
-- The document asks for a unique field and for an index of this name: one unique index is both.
create unique index if not exists "users_emailVerificationToken_idx" on reporting.users ("emailVerificationToken");
--> statement-breakpoint
comment on column reporting.users."emailVerificationToken" is 'What the verification mail carries (document 004); null when none is on its way';
--> statement-breakpoint
comment on column reporting.users."emailVerificationExpiry" is 'Until when the token counts, in UTC (document 004 gives it no time zone)';
