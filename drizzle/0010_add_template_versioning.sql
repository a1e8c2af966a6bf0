-- Document 001, its forward migration template 004_add_template_versioning: versions of templates, and which came from which.
-- Locks: ADD COLUMN takes ACCESS EXCLUSIVE for an instant and rewrites nothing; the constraint reads the table under it, and templates are few.
alter table reporting.templates
  add column version integer not null default 1,
  add column parent_template_id uuid references reporting.templates (id);
--> statement-breakpoint
-- Nothing kept names apart so far, and the document's "all of them are version 1" would fail on the second of a name: the older comes first.
update reporting.templates t
set version = counted.version
from (
  select id, row_number() over (partition by organization_id, name order by created_at, id) as version
  from reporting.templates
) counted
where counted.id = t.id and counted.version > 1;
--> statement-breakpoint
alter table reporting.templates
  add constraint valid_version check (version > 0),
  add constraint unique_template_name_version unique (organization_id, name, version);
--> statement-breakpoint
create index idx_templates_version on reporting.templates (version);
--> statement-breakpoint
create index idx_templates_parent_template_id on reporting.templates (parent_template_id);
--> statement-breakpoint
comment on table reporting.templates is 'What a report shows and which parameters it takes (document 001), in versions that never share a number';
--> statement-breakpoint
comment on column reporting.templates.version is 'From 1; unique for a name within its organization';
--> statement-breakpoint
comment on column reporting.templates.parent_template_id is 'The template this one was made from; null for one made from nothing';
