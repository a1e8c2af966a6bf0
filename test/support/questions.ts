import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { type Lease, takeLease } from './engine.ts'
import { requestOverride, seedCategory } from './overrides.ts'
import type { TestDatabase } from './postgres.ts'

export type Question = { question: string; sql: string; shell: string }

/** The table "Twelve questions" of docs/operations.md: number → question, line of SQL, line of the shell. What the document says is what is run. */
export async function readQuestions(): Promise<Map<number, Question>> {
  const text = await readFile(new URL('../../docs/operations.md', import.meta.url), 'utf8')
  const section = text.slice(text.indexOf('## Twelve questions'), text.indexOf('## By symptom'))
  const rows = [...section.matchAll(/^\| (\d+) \| (.+?) \| `([^`]+)` \| `([^`]+)` \|$/gm)]
  return new Map(rows.map(([, number, question = '', sql = '', shell = '']) => [Number(number), { question, sql, shell }]))
}

/** A night with something to ask of: a run that is running, one that is stuck, one cancelled and one failed; timers; tables. */
export type Night = {
  runs: { running: string; stuck: string; cancelled: string; failed: string }
  lease: Lease
  urlOf(role: string): string
  end(): Promise<void>
}

const roles = ['pawl_observer', 'pawl_operator', 'pawl_producer'] as const

/** Sets such a night up in a database that was just made, with a login for each group role. */
export async function openNight(db: TestDatabase): Promise<Night> {
  const suffix = randomBytes(6).toString('hex')
  const loginOf = (role: string) => `pawl_test_${role}_${suffix}`
  for (const role of roles) await db.query(`create role ${loginOf(role)} login password 'secret ${suffix}' in role ${role}`)
  const lease = await takeLease(db, 'night-shift', ['overrides.apply', 'campaigns.fire', 'maintenance.backup'])
  const seeded = await seedCategory(db.query, 20)
  const other = await seedCategory(db.query, 20, { name: 'another' })
  const running = await requestOverride(db.query, seeded, { batchSize: 10 })
  await db.query(
    `select pawl.start_override($1, o.epoch, 1) from pawl.checkpoints c cross join lateral pawl.open_run($1, $2, c.job_id, 0, '10 seconds') o where c.run_id = $1`,
    [running, lease.id],
  )
  await db.query('select pawl.apply_override_batch(run_id, 0, epoch) from pawl.checkpoints where run_id = $1', [running])
  const cancelled = await requestOverride(db.query, other)
  await db.transact(async query => {
    await query(`set local session authorization ${loginOf('pawl_operator')}`)
    await query('select pawl.cancel($1, $2)', [cancelled, 'wrong settings'])
  })
  const failed = await requestOverride(db.query, other)
  await db.query(`select pawl.finish($1, null, 'failed', 'the template is empty')`, [failed])
  const stuck = await requestOverride(db.query, other)
  await db.query(`update pawl.checkpoints set updated_at = now() - interval '2 minutes' where run_id = $1`, [stuck])
  await db.query(`update pgboss.job set start_after = now() - interval '2 minutes' where name = 'overrides.apply'`)
  await db.query(`select pawl.create_campaign(2, now() + interval '30 minutes', false), pawl.create_campaign(2, now() + interval '3 hours', false)`)
  const [late] = await db.query<{ id: string }>(`select pawl.create_campaign(2, now(), false) as id`)
  await db.query(
    `update campaign_timers set status = 'COMPLETED', executed_at = scheduled_at + interval '1200 ms' where campaign_id = $1 and timer_type = 'START_CAMPAIGN'`,
    [late?.id],
  )
  await db.query(`
    update sqp.refresh_config set custom_sync_params = '{"source": "sql", "query": "select 1"}', last_refresh_at = now(), next_refresh_at = now() + interval '1 day';
    update sqp.refresh_config set last_refresh_at = now() - interval '2 days', next_refresh_at = now() - interval '1 hour' where table_name = 'yearly_summary'`)
  return {
    runs: { running, stuck, cancelled, failed },
    lease,
    urlOf: role => db.urlAs(loginOf(role), `secret ${suffix}`),
    async end() {
      await lease.stop()
      for (const role of roles) await db.query(`drop role if exists ${loginOf(role)}`)
    },
  }
}
