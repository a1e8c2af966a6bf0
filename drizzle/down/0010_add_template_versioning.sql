-- pawl:destructive
-- Document 001, its rollback template: drops which version a template is and what it came from; every template itself stays.
drop index if exists reporting.idx_templates_version;
drop index if exists reporting.idx_templates_parent_template_id;
alter table reporting.templates drop constraint if exists unique_template_name_version;
alter table reporting.templates drop constraint if exists valid_version;
alter table reporting.templates drop column if exists version, drop column if exists parent_template_id;
comment on table reporting.templates is 'What a report shows and which parameters it takes (document 001); versions come with the next migration, as in the document';
