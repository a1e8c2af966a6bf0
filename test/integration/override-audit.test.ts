import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
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

/** Inserts an audit row of these columns, and those that must be there; the partition it landed in. */
function audit(columns: Record<string, unknown>, query = db.query) {
  const row = { operation_id: 'a', category_id: seeded.categoryId, category_name: 'c', user_id: seeded.userId, user_name: 'u', ...columns }
  const places = Object.keys(row).map((_, place) => `$${place + 1}`)
  return query(
    `insert into category_override_audit (${Object.keys(row).join(', ')}) values (${places.join(', ')}) returning tableoid::regclass::text as part`,
    Object.values(row),
  )
}

test('an operation id is unique over all months', async () => {
  await db.query(`select pawl.ensure_month_partition('category_override_audit', '2024-02-01')`)
  await audit({ operation_id: 'unique' })
  await expect(audit({ operation_id: 'unique', operation_timestamp: '2024-02-10T00:00:00Z' })).rejects.toMatchObject({
    code: '23505',
    constraint: 'category_override_audit_keys_pkey',
  })
  await db.query(`delete from category_override_audit where operation_id = 'unique'`)
  expect(await audit({ operation_id: 'unique', operation_timestamp: '2024-02-10T00:00:00Z' })).toEqual([{ part: 'category_override_audit_y2024m02' }])
})

test('maintain_audit_partitions makes the months ahead, with bounds in UTC wherever the session lives, and again makes nothing', async () => {
  const connection = await connectDirect(readConfig({ DATABASE_URL: db.url }), 'far away')
  const months = async () => {
    // Bounds are instants, written out in the time zone of whoever asks.
    await connection.query(`set timezone = 'UTC'`)
    const rows = await connection.query(`
      select c.relname as name, pg_get_expr(c.relpartbound, c.oid) as bounds from pg_inherits join pg_class c on c.oid = inhrelid
      where inhparent = 'public.category_override_audit'::regclass and c.relname >= 'category_override_audit_y2025' order by 1`)
    await connection.query(`set timezone = 'Pacific/Auckland'`)
    return rows
  }
  const before = await months()
  expect(before).toHaveLength(4)
  await connection.query(`drop table public.${before[2]?.name}, public.${before[3]?.name}`)
  expect(await months()).toHaveLength(2)
  for (let times = 0; times < 2; times += 1) {
    await connection.query('select public.maintain_audit_partitions()')
    expect(await months()).toEqual(before)
  }
  await connection.close()
  for (const { name, bounds } of before) {
    const [, year, month] = /_y(\d{4})m(\d\d)$/.exec(String(name)) ?? []
    expect(bounds).toMatch(new RegExp(`^FOR VALUES FROM \\('${year}-${month}-01 00:00:00\\+00'\\) TO \\('\\d{4}-\\d\\d-01 00:00:00\\+00'\\)$`))
  }
})

test('an audit row of next month lands in next month, and a microsecond before it in this one', async () => {
  await expect(
    db.transact(async query => {
      // The document allows an hour of the future at most; next month is not to be had otherwise.
      await query('alter table category_override_audit drop constraint chk_valid_timestamps')
      const [edge] = await query<{ at: string; before: string; this: string; next: string }>(`
      select m::text || '+00' as at, (m - interval '1 microsecond')::text || '+00' as before, to_char(m, '"category_override_audit_y"YYYY"m"MM') as next,
        to_char(m - interval '1 day', '"category_override_audit_y"YYYY"m"MM') as this
      from (select date_trunc('month', now() at time zone 'UTC') + interval '1 month') edge (m)`)
      expect(await audit({ operation_id: 'next', operation_timestamp: edge?.at }, query)).toEqual([{ part: edge?.next }])
      expect(await audit({ operation_id: 'this', operation_timestamp: edge?.before }, query)).toEqual([{ part: edge?.this }])
      throw new Error('take it back')
    }),
  ).rejects.toThrow('take it back')
  await expect(audit({ operation_timestamp: '2001-01-01T00:00:00Z' })).rejects.toMatchObject({
    code: '23514',
    message: expect.stringContaining('no partition'),
  })
})

test('the statistics trigger counts an operation when it becomes COMPLETED, once, and an older one never overwrites a newer', async () => {
  const stats = async () =>
    (
      await db.query(
        'select override_count as n, last_override_recipients_count as reached, last_override_by as who, last_override_at as at from categories where id = $1',
        [seeded.categoryId],
      )
    )[0]
  const set = (id: string, changes: string) => db.query(`update category_override_audit set ${changes} where operation_id = $1`, [id])
  const at = new Date(Date.now() - 1000)
  await audit({ operation_id: 'counted', operation_status: 'STARTED', operation_timestamp: at })
  expect(await stats()).toEqual({ n: 0, reached: 0, who: null, at: null })
  await set('counted', `affected_recipients_count = 5, operation_status = 'COMPLETED'`)
  expect(await stats()).toEqual({ n: 1, reached: 5, who: seeded.userId, at })
  await set('counted', `operation_status = 'COMPLETED', user_agent = 'touched'`)
  await set('counted', 'operation_duration_ms = 7')
  expect(await stats()).toEqual({ n: 1, reached: 5, who: seeded.userId, at })
  await audit({ operation_id: 'failed', operation_status: 'FAILED', operation_timestamp: new Date() })
  expect(await stats()).toMatchObject({ n: 1, reached: 5 })
  const { userId } = await seedCategory(db.query, 0)
  const older = new Date(at.getTime() - 1)
  await audit({ operation_id: 'older', operation_status: 'STARTED', operation_timestamp: older, user_id: userId })
  await set('older', `affected_recipients_count = 9, operation_status = 'COMPLETED'`)
  expect(await stats()).toEqual({ n: 2, reached: 5, who: seeded.userId, at })
  // As the document has it: inserted as COMPLETED at once.
  await audit({ operation_id: 'at once', affected_recipients_count: 3 })
  expect(await stats()).toMatchObject({ n: 3, reached: 3 })
})

test('the operation_id of an audit row never changes', async () => {
  await audit({ operation_id: 'fixed' })
  await expect(db.query(`update category_override_audit set operation_id = 'other' where operation_id = 'fixed'`)).rejects.toMatchObject({ code: '22023' })
  await db.query(`update category_override_audit set operation_id = operation_id where operation_id = 'fixed'`)
})
