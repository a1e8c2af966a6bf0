import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { seedCategory, type Seeded } from '../support/overrides.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'

let db: TestDatabase
let seeded: Seeded

beforeAll(async () => {
  db = await createDatabase()
})

beforeEach(async () => {
  seeded = await seedCategory(db.query, 2)
})

afterAll(() => db.drop())

function insert(table: string, columns: Record<string, unknown>) {
  const places = Object.keys(columns).map((_, place) => `$${place + 1}`)
  return db.query(`insert into ${table} (${Object.keys(columns).join(', ')}) values (${places.join(', ')})`, Object.values(columns))
}

/** Inserts an audit row, or an operation, of these columns and those that must be there. */
const audit = (columns: Record<string, unknown>) =>
  insert('category_override_audit', {
    operation_id: 'a',
    category_id: seeded.categoryId,
    category_name: 'c',
    user_id: seeded.userId,
    user_name: 'u',
    ...columns,
  })
const operation = (columns: Record<string, unknown>) =>
  insert('category_override_operations', { operation_id: 'o', category_id: seeded.categoryId, user_id: seeded.userId, ...columns })

// Document 000, tables 1 and 2: name, type, null or not, default. The audit's id is part of a partitioned key and counts by its own sequence.
const columns = {
  category_override_audit: [
    "id bigint not null nextval('category_override_audit_id_seq'::regclass)",
    'operation_id character varying(50) not null',
    'category_id bigint not null',
    'category_name character varying(255) not null',
    'user_id bigint not null',
    'user_name character varying(255) not null',
    'affected_recipients_count integer not null 0',
    'operation_timestamp timestamp with time zone not null now()',
    "operation_status character varying(20) not null 'COMPLETED'::character varying",
    'operation_duration_ms integer',
    'error_message text',
    'client_ip inet',
    'user_agent text',
    'created_at timestamp with time zone not null now()',
  ],
  category_override_operations: [
    "id bigint not null nextval('category_override_operations_id_seq'::regclass)",
    'operation_id character varying(50) not null',
    'category_id bigint not null',
    'user_id bigint not null',
    "status character varying(20) not null 'PENDING'::character varying",
    'total_recipients integer',
    'processed_recipients integer 0',
    'batch_size integer 100',
    'current_batch integer 0',
    'started_at timestamp with time zone not null now()',
    'last_updated_at timestamp with time zone not null now()',
    'completed_at timestamp with time zone',
    'error_message text',
    'retry_count integer 0',
    'max_retries integer 3',
  ],
  category_recipient_settings: [
    'updated_by_operation character varying(50)',
    'is_override_generated boolean false',
    'override_timestamp timestamp with time zone',
  ],
  categories: ['last_override_at timestamp with time zone', 'last_override_by bigint', 'override_count integer 0', 'last_override_recipients_count integer 0'],
}

for (const [table, wanted] of Object.entries(columns)) {
  test(`${table} has every column of the document, with its type, null rule and default`, async () => {
    const rows = await db.query<{ line: string }>(
      `select concat_ws(' ', attname, format_type(atttypid, atttypmod), case when attnotnull then 'not null' end, pg_get_expr(adbin, adrelid)) as line
       from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum where attrelid = ('public.' || $1)::regclass and attnum > 0`,
      [table],
    )
    expect(rows.map(row => row.line)).toEqual(expect.arrayContaining(wanted))
  })
}

// Of each index of the document: table, columns, and the predicate of a partial one.
const indexes: Record<string, string> = {
  idx_category_override_audit_category_id: 'category_override_audit (category_id)',
  idx_category_override_audit_user_id: 'category_override_audit (user_id)',
  idx_category_override_audit_timestamp: 'category_override_audit (operation_timestamp DESC)',
  idx_category_override_audit_status: 'category_override_audit (operation_status)',
  // RESOLVED 3: unique over all months by category_override_audit_keys; a unique index of a partitioned table needs its partition key.
  idx_category_override_audit_operation_id: 'category_override_audit (operation_id, operation_timestamp) unique',
  idx_category_override_audit_active:
    "category_override_audit (operation_timestamp DESC) WHERE ((operation_status)::text = ANY ((ARRAY['STARTED'::character varying, 'FAILED'::character varying])::text[]))",
  idx_category_override_operations_status: 'category_override_operations (status)',
  idx_category_override_operations_started_at: 'category_override_operations (started_at DESC)',
  idx_category_override_operations_category_id: 'category_override_operations (category_id)',
  idx_category_override_operations_operation_id: 'category_override_operations (operation_id) unique',
  idx_category_override_operations_active:
    "category_override_operations (started_at DESC) WHERE ((status)::text = ANY ((ARRAY['PENDING'::character varying, 'PROCESSING'::character varying])::text[]))",
  idx_category_recipient_settings_override: 'category_recipient_settings (updated_by_operation, override_timestamp DESC) WHERE (is_override_generated = true)',
  idx_categories_last_override: 'categories (last_override_at DESC) WHERE (last_override_at IS NOT NULL)',
  idx_audit_category_status_timestamp: 'category_override_audit (category_id, operation_status, operation_timestamp DESC)',
  idx_operations_user_status: 'category_override_operations (user_id, status)',
  idx_operations_processing: "category_override_operations (started_at DESC) WHERE ((status)::text = 'PROCESSING'::text)",
  category_override_audit_keys_pkey: 'category_override_audit_keys (operation_id) unique',
}

test('every index of the document exists by its name, on its columns, once, and on every month of the audit', async () => {
  const rows = await db.query<{ name: string; definition: string; months: number; valid: boolean }>(
    `select c.relname as name, i.indisvalid as valid,
       regexp_replace(pg_get_indexdef(i.indexrelid), '^CREATE (UNIQUE )?INDEX \\S+ ON (ONLY )?public\\.(\\S+) USING btree (.*)$', '\\3 \\4')
         || case when i.indisunique then ' unique' else '' end as definition,
       (select count(*) from pg_inherits where inhparent = i.indexrelid) as months
     from pg_index i join pg_class c on c.oid = i.indexrelid where c.relnamespace = 'public'::regnamespace and not c.relispartition`,
  )
  const found = Object.fromEntries(rows.map(row => [row.name, row.definition]))
  expect(found).toMatchObject(indexes)
  expect(rows.filter(row => !row.valid)).toEqual([])
  const [parts] = await db.query<{ n: number }>(`select count(*) as n from pg_inherits where inhparent = 'public.category_override_audit'::regclass`)
  for (const row of rows.filter(row => row.definition.startsWith('category_override_audit ('))) expect([row.name, row.months]).toEqual([row.name, parts?.n])
  // RESOLVED 4: the document makes its unique indexes twice.
  const ours = rows.filter(row => row.definition.startsWith('category_override_')).map(row => row.definition.replace(/ unique$/, ''))
  expect(ours.filter((definition, place) => ours.indexOf(definition) !== place)).toEqual([])
})

const refusals: [string, string, () => Promise<unknown>][] = [
  ['chk_operation_status', '23514', () => audit({ operation_status: 'CANCELLED' })],
  ['chk_affected_recipients_count', '23514', () => audit({ affected_recipients_count: -1 })],
  ['chk_operation_duration', '23514', () => audit({ operation_duration_ms: -1 })],
  ['chk_valid_timestamps', '23514', () => audit({ operation_timestamp: new Date(Date.now() + 61 * 60_000) })],
  ['fk_category_override_audit_category', '23503', () => audit({ category_id: 0 })],
  ['fk_category_override_audit_user', '23503', () => audit({ user_id: 0 })],
  ['chk_override_operation_status', '23514', () => operation({ status: 'STARTED' })],
  ['chk_processed_recipients', '23514', () => operation({ processed_recipients: -1 })],
  ['chk_total_recipients', '23514', () => operation({ total_recipients: -1, processed_recipients: null })],
  ['chk_batch_size', '23514', () => operation({ batch_size: 0 })],
  ['chk_batch_size', '23514', () => operation({ batch_size: 1001 })],
  ['chk_retry_count', '23514', () => operation({ retry_count: -1 })],
  ['chk_retry_count', '23514', () => operation({ retry_count: 4 })],
  ['chk_recipient_counts', '23514', () => operation({ total_recipients: 5, processed_recipients: 6 })],
  ['fk_category_override_operations_category', '23503', () => operation({ category_id: 0 })],
  ['fk_category_override_operations_user', '23503', () => operation({ user_id: 0 })],
  [
    'fk_category_recipient_settings_operation',
    '23503',
    () => db.query(`update category_recipient_settings set updated_by_operation = 'unknown', is_override_generated = true, override_timestamp = now()`),
  ],
  ['fk_categories_last_override_user', '23503', () => db.query('update categories set last_override_by = 0')],
]

for (const [place, [constraint, code, attempt]] of refusals.entries()) {
  test(`${constraint} refuses what it should (${place + 1})`, () => expect(attempt()).rejects.toMatchObject({ code, constraint }))
}

test('the checks let the edges of what they allow pass', async () => {
  for (const batch_size of [1, 1000])
    await operation({ operation_id: `edge ${batch_size}`, batch_size, retry_count: 3, total_recipients: 0, processed_recipients: 0 })
  for (const status of ['STARTED', 'COMPLETED', 'FAILED']) await audit({ operation_id: `edge ${status}`, operation_status: status, operation_duration_ms: 0 })
  await expect(operation({ operation_id: 'edge 1' })).rejects.toMatchObject({ code: '23505', constraint: 'idx_category_override_operations_operation_id' })
})

test('a settings row names an operation only together with flag and time, and loses the name with the audit row', async () => {
  await audit({ operation_id: 'named' })
  const name = (rest: string) =>
    db.query(`update category_recipient_settings set updated_by_operation = 'named'${rest} where category_id = $1`, [seeded.categoryId])
  for (const rest of ['', ', is_override_generated = true', ', override_timestamp = now()'])
    await expect(name(rest)).rejects.toMatchObject({ code: '23514', constraint: 'chk_valid_operation_reference' })
  await name(', is_override_generated = true, override_timestamp = now()')
  await db.query(`delete from category_override_audit where operation_id = 'named'`)
  expect(await db.query('select distinct updated_by_operation from category_recipient_settings where category_id = $1', [seeded.categoryId])).toEqual([
    { updated_by_operation: null },
  ])
})
