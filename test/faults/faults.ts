import { chmodSync, cpSync, readFileSync, rmSync, writeFileSync, writeSync, openSync, closeSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../src/clock.ts'
import { runPawl, type WorkerProcess } from '../support/process.ts'
import { until } from '../support/until.ts'
import { isOutage } from './load.ts'
import { type Ground, WORKER } from './ground.ts'
import type { Fault, Kind } from './plan.ts'

/** What was done, and what came of it that nobody should see. */
export type Done = {
  /** In a few words, for the live line. */
  what: string
  wrong: string[]
  /** What the fault leaves to do once the house is back to work: replacements on their way. */
  after?: Promise<string[]>
}

/** Calls `struck` at the moment from which recovery counts: with its victim, that of the blow; without, when what concerned all is over. */
type Blow = (ground: Ground, fault: Fault, struck: (victim?: WorkerProcess) => Promise<void>) => Promise<Done>

const DRAIN_PATIENCE_MS = 60_000
const HOUR_MS = 3_600_000
const checkout = fileURLToPath(new URL('../..', import.meta.url))

export const blows: Readonly<Record<Kind, Blow>> = {
  async kill(ground, fault, struck) {
    const victim = chosen(ground, fault)
    await struck(victim)
    victim.signal('SIGKILL')
    await victim.exited
    return { what: `SIGKILL ${victim.name}`, wrong: [], after: ground.crew.start().then(() => []) }
  },
  async stop(ground, fault, struck) {
    const victim = chosen(ground, fault)
    await struck(victim)
    victim.signal('SIGSTOP')
    await systemClock.sleep(fault.lastsMs)
    victim.signal('SIGCONT')
    return { what: `SIGSTOP ${victim.name} for ${seconds(fault.lastsMs)}`, wrong: [] }
  },
  async term(ground, fault, struck) {
    const victim = chosen(ground, fault)
    const replacement = await ground.crew.start()
    await struck(victim)
    victim.signal('SIGTERM')
    return { what: `SIGTERM ${victim.name}, ${replacement.name} instead`, wrong: await ended(victim) }
  },
  async crash({ server }, fault, struck) {
    await server.kill('immediate')
    await systemClock.sleep(fault.lastsMs)
    await server.restart()
    await struck()
    return { what: `PostgreSQL stopped at once, ${seconds(fault.lastsMs)} away`, wrong: [] }
  },
  async storm({ exempt }, fault, struck) {
    const end = systemClock.elapsed() + fault.lastsMs
    let ended = 0
    do {
      ended += (await exempt.query(`select pg_terminate_backend(pid) from pg_stat_activity where usename = $1`, [WORKER])).length
      await systemClock.sleep(200)
    } while (systemClock.elapsed() < end)
    await struck()
    return { what: `${ended} sessions terminated in ${seconds(fault.lastsMs)}`, wrong: [] }
  },
  async connections({ exempt }, fault, struck) {
    const limit = 2 + Math.floor(fault.dose * 4)
    await exempt.query(`alter role ${WORKER} connection limit ${limit}`)
    // Those that are open stay open: everybody has to come anew.
    await exempt.query('select pg_terminate_backend(pid) from pg_stat_activity where usename = $1', [WORKER])
    await systemClock.sleep(fault.lastsMs)
    await exempt.query(`alter role ${WORKER} connection limit -1`)
    await struck()
    return { what: `${limit} connections for all workers, ${seconds(fault.lastsMs)}`, wrong: [] }
  },
  async pooler({ pooler, proxy }, fault, struck) {
    if (pooler === undefined) {
      // Nothing to break but the way there.
      proxy.cut()
      await struck()
      return { what: 'no PgBouncer here: all connections were reset', wrong: [] }
    }
    const isLimit = fault.dose < 0.5
    if (isLimit) {
      await pooler.tell('set max_db_connections = 1')
      await pooler.tell('reconnect')
    } else {
      await pooler.kill()
    }
    await systemClock.sleep(fault.lastsMs)
    if (isLimit) await pooler.tell('set max_db_connections = 0')
    else await pooler.restart()
    await struck()
    return { what: `PgBouncer ${isLimit ? 'with one server connection' : 'killed'}, ${seconds(fault.lastsMs)}`, wrong: [] }
  },
  async latency({ proxy }, fault, struck) {
    const ms = Math.round(20 + fault.dose * 180)
    proxy.delay(ms)
    await systemClock.sleep(fault.lastsMs)
    proxy.delay(0)
    await struck()
    return { what: `${ms} ms each way, ${seconds(fault.lastsMs)}`, wrong: [] }
  },
  async 'black hole'({ proxy }, fault, struck) {
    proxy.stall()
    await systemClock.sleep(fault.lastsMs)
    const isCut = fault.dose < 0.5
    if (isCut) proxy.cut()
    proxy.flow()
    await struck()
    return { what: `nothing came through for ${seconds(fault.lastsMs)}, then ${isCut ? 'all was reset' : 'it went on'}`, wrong: [] }
  },
  async promotion({ replica }, _fault, struck) {
    await replica.promote()
    await struck()
    return { what: 'the replica was promoted, and another one built', wrong: [] }
  },
  async clock({ crew, ...ground }, fault, struck) {
    const victim = chosen({ crew, ...ground }, fault)
    const clockMs = fault.dose < 0.5 ? -HOUR_MS : HOUR_MS
    const replacement = await crew.start({ clockMs })
    await struck(victim)
    victim.signal('SIGTERM')
    return { what: `${replacement.name} comes with a clock an hour ${clockMs < 0 ? 'late' : 'early'}, ${victim.name} goes`, wrong: await ended(victim) }
  },
  async 'disk full'({ store, exempt }, fault, struck) {
    const ballast = join(store.folder, '..ballast')
    if (store.small) fill(ballast)
    else chmodSync(store.folder, 0o500)
    await systemClock.sleep(fault.lastsMs)
    if (store.small) rmSync(ballast)
    else chmodSync(store.folder, 0o700)
    await struck()
    const [row] = await exempt.query<{ n: number }>(`select count(*) as n from pawl.checkpoints where state = 'failed' and kind = 'report'`)
    return { what: `the store was ${store.small ? 'full' : 'shut'} for ${seconds(fault.lastsMs)}, ${row?.n ?? 0} reports failed of it`, wrong: [] }
  },
  async migration(ground, fault, struck) {
    const migrations = nextSchema(ground.folder, fault.number)
    const url = ground.urls.own
    const { code, stderr, stdout } = await runPawl(['migrate', 'up'], url, { env: { PAWL_MIGRATIONS_DIR: migrations } })
    await struck()
    const wrong = code === 0 ? [] : [`pawl migrate up ended with ${code}: ${stdout}${stderr}`]
    // One that knows the new schema beside those that don't.
    return {
      what: `schema N + ${addedIn(migrations)}, the workers of before stay`,
      wrong,
      ...(code === 0 ? { after: replaced(ground, fault, migrations) } : {}),
    }
  },
}

/** By its place among the living: the plan knows no names. */
function chosen({ crew }: Pick<Ground, 'crew'>, fault: Fault): WorkerProcess {
  const living = crew.living()
  const victim = living[Math.min(living.length - 1, Math.floor(fault.victim * living.length))]
  if (victim === undefined) throw new Error('no worker lives')
  return victim
}

/** Waits until a worker that was told to drain has ended; what was wrong with that. */
export async function ended(worker: WorkerProcess): Promise<string[]> {
  const late = systemClock.sleep(DRAIN_PATIENCE_MS).then(() => undefined)
  const end = await Promise.race([worker.exited, late])
  if (end?.code === 0) return []
  worker.signal('SIGKILL')
  return [end === undefined ? `${worker.name} did not drain within ${DRAIN_PATIENCE_MS / 1000} s` : `${worker.name} ended with ${end.code ?? end.signal}`]
}

async function replaced(ground: Ground, fault: Fault, migrations: string): Promise<string[]> {
  const victim = chosen(ground, fault)
  await ground.crew.start({ migrations })
  victim.signal('SIGTERM')
  return ended(victim)
}

/** Until not one byte more goes in. */
function fill(path: string): void {
  const file = openSync(path, 'w')
  try {
    for (let block = Buffer.alloc(4 << 20); block.length >= 512; ) {
      try {
        writeSync(file, block)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
        block = block.subarray(0, block.length >> 1)
      }
    }
  } finally {
    closeSync(file)
  }
}

/** The migrations of a version that is one further than the last: additive, as those of a rolling update are. */
function nextSchema(folder: string, number: number): string {
  const directory = join(folder, 'drizzle')
  cpSync(join(checkout, 'drizzle'), directory, { recursive: true, force: false, errorOnExist: false })
  const journalPath = join(directory, 'meta', '_journal.json')
  const journal = JSON.parse(readFileSync(journalPath, 'utf8')) as { entries: { idx: number; when: number; tag: string }[] }
  const last = journal.entries.at(-1)
  if (last === undefined) throw new Error('the journal has no entries')
  const tag = `9${String(number).padStart(3, '0')}_added_under_load`
  const column = `added_${number}`
  const tables = ['public.category_recipient_settings', 'public.campaign_timers', 'pawl.checkpoints']
  const up = tables.map(table => `alter table ${table} add column ${column} integer default 0;`)
  const down = tables.map(table => `alter table ${table} drop column if exists ${column};`)
  writeFileSync(join(directory, `${tag}.sql`), `-- One column more. Locks: ACCESS EXCLUSIVE for moments.\n${up.join('\n--> statement-breakpoint\n')}\n`)
  writeFileSync(join(directory, 'down', `${tag}.sql`), `-- pawl:destructive\n${down.join('\n--> statement-breakpoint\n')}\n`)
  journal.entries.push({ ...last, idx: last.idx + 1, when: last.when + 1_000, tag })
  writeFileSync(journalPath, JSON.stringify(journal))
  return directory
}

function addedIn(directory: string): number {
  const { entries } = JSON.parse(readFileSync(join(directory, 'meta', '_journal.json'), 'utf8')) as { entries: { tag: string }[] }
  return entries.filter(entry => entry.tag.startsWith('9')).length
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`

/** Asks until the server answers again: right after its start it may still say that it is starting, and connections of before are dead. */
export function answering<Answer>(ask: () => Promise<NonNullable<Answer>>): Promise<NonNullable<Answer>> {
  const attempt = () =>
    ask().catch((error: unknown) => {
      if (!isOutage(error)) throw error
      return undefined
    })
  return until('the server answers', attempt, 120_000)
}
