import type { Query } from '../../src/database.ts'

export type Seeded = { categoryId: number; userId: number; recipients: number }

/** A category with `recipients` live recipients, each with a settings row, and a user. */
export async function seedCategory(query: Query, recipients: number, options: { name?: string; withSettings?: boolean } = {}): Promise<Seeded> {
  const [user] = await query<{ id: number }>(`insert into public.users (username) values ('user ' || gen_random_uuid()) returning id`)
  const [category] = await query<{ id: number }>(`insert into public.categories (name, settings) values ($1, '{"channel": "email"}') returning id`, [
    options.name ?? 'Newsletter',
  ])
  if (user === undefined || category === undefined) throw new Error('the seed inserted nothing')
  await query(
    `insert into public.recipients (category_id, name, is_ad_synced, is_active) select $1, 'recipient ' || i, true, true from generate_series(1, $2::integer) i`,
    [category.id, recipients],
  )
  if (options.withSettings !== false) {
    await query(
      `insert into public.category_recipient_settings (category_id, recipient_id, settings)
       select category_id, id, jsonb_build_object('before', id) from public.recipients where category_id = $1`,
      [category.id],
    )
  }
  await query('analyze public.recipients')
  return { categoryId: category.id, userId: user.id, recipients }
}

/** Requests an override of the category; its id. */
export async function requestOverride(query: Query, seeded: Seeded, options: { settings?: object; batchSize?: number } = {}): Promise<string> {
  const [row] = await query<{ id: string }>('select pawl.request_override($1, $2, $3, $4) as id', [
    seeded.categoryId,
    seeded.userId,
    JSON.stringify(options.settings ?? { channel: 'sms' }),
    options.batchSize ?? 100,
  ])
  return row?.id ?? ''
}

/** Everything the documents promise of a completed operation, read from the rows; an empty list when all holds. */
export async function faultsOf(query: Query, runId: string, expected: number): Promise<string[]> {
  const [row] = await query<Record<string, unknown>>(
    `select o.status, o.processed_recipients, o.total_recipients, o.retry_count, o.completed_at is not null as ended,
       a.operation_status, a.affected_recipients_count, a.operation_duration_ms >= 0 as timed,
       c.state, c.done, c.failures, cat.override_count, cat.last_override_recipients_count,
       (select count(*) from public.category_recipient_settings s where s.updated_by_operation = o.operation_id) as carrying,
       (select count(*) from public.category_recipient_settings s
        where s.updated_by_operation = o.operation_id and s.settings = o.override_settings and s.is_override_generated
          and s.override_timestamp = o.operation_timestamp) as exact
     from public.category_override_operations o
     join public.category_override_audit a using (operation_id)
     join public.categories cat on cat.id = o.category_id
     join pawl.checkpoints c on c.run_id = o.operation_id
     where o.operation_id = $1`,
    [runId],
  )
  const wanted: Record<string, unknown> = {
    status: 'COMPLETED',
    processed_recipients: expected,
    total_recipients: expected,
    retry_count: 0,
    ended: true,
    operation_status: 'COMPLETED',
    affected_recipients_count: expected,
    timed: true,
    state: 'completed',
    done: expected,
    failures: 0,
    override_count: 1,
    last_override_recipients_count: expected,
    carrying: expected,
    exact: expected,
  }
  return Object.entries(wanted).flatMap(([name, value]) => (row?.[name] === value ? [] : [`${name} is ${String(row?.[name])}, not ${String(value)}`]))
}
