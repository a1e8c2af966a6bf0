-- Document 000, V1.2: rows that an adopted host brought along. Locks: the rows it changes; in large tables it changes none,
-- because ADD COLUMN … DEFAULT has filled them already.
update public.categories set override_count = 0 where override_count is null;
--> statement-breakpoint
update public.category_recipient_settings set is_override_generated = false where is_override_generated is null;
