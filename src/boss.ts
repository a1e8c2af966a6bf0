import { PgBoss } from 'pg-boss'
import type { Config } from './config.ts'
import type { Query } from './database.ts'
import { messageOf, PawlError } from './errors.ts'
import { clientUrl } from './libpq.ts'
import type { Log } from './log.ts'
import { deadLetterOf, eventQueues, eventRetentionSeconds, queues } from './queues.ts'
import { cronLines, SWEEP_QUEUE } from './schedules.ts'

/** pg-boss on the direct connection (it listens), every option that matters explicit. `start()` and `stop()` are the caller's. */
export function openBoss(config: Config, log: Log, options: { supervise: boolean; name: string }): PgBoss {
  if (config.directUrl === undefined) throw new PawlError('database.missing', 'no database is named', { hint: 'set DATABASE_URL' })
  const boss = new PgBoss({
    connectionString: clientUrl(config.directUrl, config.sslRejectUnauthorized),
    application_name: options.name,
    instanceName: options.name,
    // Claims, heartbeats and completions are short; what runs for long has the pool in database.ts.
    max: 4,
    supervise: options.supervise,
    schedule: options.supervise,
    // With `false` a worker refuses to start once a newer release has migrated the queue: a rolling deploy would stop half-way.
    migrate: true,
    superviseIntervalSeconds: 2,
    monitorIntervalSeconds: 2,
    useListenNotify: options.supervise,
    persistWarnings: options.supervise,
    registerInstance: options.supervise,
  })
  // An 'error' event without a listener ends the process; pg-boss goes on by itself once the database is back.
  boss.on('error', error => log.warn({ err: error, reason: messageOf(error) }, 'pg-boss met an error'))
  boss.on('warning', warning => log.warn({ warning }, 'pg-boss warns'))
  return boss
}

/** Installs or upgrades pg-boss's schema and reconciles the queues with `queues.ts`. For `pawl migrate up`, under its lock. */
export async function installBoss(config: Config, log: Log): Promise<void> {
  const boss = openBoss(config, log, { supervise: false, name: 'pawl migrate' })
  await boss.start()
  try {
    for (const { name, atOnce: _atOnce, ...settings } of queues) {
      const deadLetter = deadLetterOf(name)
      await boss.createQueue(deadLetter, { retentionSeconds: settings.retentionSeconds })
      const wanted = { ...settings, retryBackoff: true, notify: true, deadLetter }
      await boss.createQueue(name, wanted)
      await boss.updateQueue(name, wanted)
    }
    for (const event of eventQueues) await boss.createQueue(event, { retentionSeconds: eventRetentionSeconds, notify: true })
    await reconcileSchedules(boss, config)
  } finally {
    await boss.stop({ graceful: false })
  }
}

/** Those of the list are made or changed, those that left it are taken out. */
async function reconcileSchedules(boss: PgBoss, config: Config): Promise<void> {
  const wanted = cronLines(config)
  for (const [key, line] of wanted) {
    await boss.schedule(SWEEP_QUEUE, line, { schedule: key }, { tz: 'UTC', key }).catch((error: unknown) => {
      throw new PawlError('schedule.cron', `"${line}" is no cron line for ${key}: ${messageOf(error)}`, {
        hint: 'five fields in UTC: minute, hour, day of month, month, day of week',
        cause: error,
      })
    })
  }
  for (const { key } of await boss.getSchedules(SWEEP_QUEUE)) if (!wanted.has(key)) await boss.unschedule(SWEEP_QUEUE, key)
}

/** What the worker role needs of pg-boss's schema: granted by the migrations, and anew here, as a newer pg-boss may bring new tables. */
export async function grantBoss(query: Query): Promise<void> {
  const [role] = await query<{ present: boolean }>(`select exists (select from pg_roles where rolname = 'pawl_worker') as present`)
  if (role?.present !== true) return
  await query(`
    grant usage on schema pgboss to pawl_worker;
    grant select, insert, update, delete on all tables in schema pgboss to pawl_worker;
    grant usage on all sequences in schema pgboss to pawl_worker;
    grant execute on all functions in schema pgboss to pawl_worker`)
}
