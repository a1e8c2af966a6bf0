-- What the three examples need, made once by the database's owner in a database of Pawl ("npm start" has one, "pawl migrate up" makes one):
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f examples/prepare.sql
begin;

-- Two logins. The shop enqueues, and reads nothing of Pawl; the watch reads pawl.runs, and enqueues nothing.
-- Passwords for an example: give yours by \password.
do $$
begin
  if not exists (select from pg_roles where rolname = 'example_shop') then
    create role example_shop login password 'shop' in role pawl_producer;
  end if;
  if not exists (select from pg_roles where rolname = 'example_watch') then
    create role example_watch login password 'watch' in role pawl_observer;
  end if;
end
$$;

-- The shop's own table, whose rows are to commit together with what they ask of Pawl. Reports read as pawl_report.
create table if not exists public.example_orders (
  id bigint generated always as identity primary key,
  customer text not null,
  placed_at timestamptz not null default now()
);
grant insert on public.example_orders to example_shop;
grant select on public.example_orders to pawl_report;

-- Overrides: a category with recipients, and who asks.
insert into public.users (id, username) values (9001, 'example') on conflict do nothing;
insert into public.categories (id, name, settings) values (9001, 'Example', '{"channel": "email"}') on conflict do nothing;
insert into public.recipients (id, category_id, name, is_ad_synced, is_active)
select 900000 + i, 9001, 'recipient ' || i, true, true from generate_series(1, 300) i
on conflict do nothing;

-- Refresh: a table that is filled by a query of this database.
create table if not exists sqp.example_years (year integer primary key, orders bigint not null);
insert into sqp.refresh_config (table_schema, table_name) values ('sqp', 'example_years') on conflict do nothing;
update sqp.refresh_config
set is_enabled = true,
    custom_sync_params = '{"source": "sql", "query": "select n as year, 10::bigint * n as orders from generate_series(2024, 2026) n"}'
where table_schema = 'sqp' and table_name = 'example_years';

-- Reports: an organization, its user, a template, a report.
insert into reporting.organizations (id, name, slug) values ('00000000-0000-4000-8000-000000009001', 'Example', 'example') on conflict do nothing;
insert into reporting.users (id, email, username, password_hash, first_name, last_name, organization_id, role)
values ('00000000-0000-4000-8000-000000009002', 'ada@example.com', 'example', '!', 'Ada', 'Example', '00000000-0000-4000-8000-000000009001', 'org_admin')
on conflict do nothing;
insert into reporting.templates (id, name, organization_id, created_by, template_type, structure)
values (
  '00000000-0000-4000-8000-000000009003', 'Example orders', '00000000-0000-4000-8000-000000009001', '00000000-0000-4000-8000-000000009002',
  'tabular', '{"source": "public.example_orders", "columns": ["id", "customer", "placed_at"]}'
)
on conflict do nothing;
insert into reporting.reports (id, name, template_id, organization_id, created_by)
values (
  '00000000-0000-4000-8000-000000009004', 'Example orders', '00000000-0000-4000-8000-000000009003',
  '00000000-0000-4000-8000-000000009001', '00000000-0000-4000-8000-000000009002'
)
on conflict do nothing;

commit;
