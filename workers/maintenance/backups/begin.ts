import { codeOf, messageOf, PawlError } from '../../../src/errors.ts'
import { startTool, type Tools } from '../../../src/tools.ts'
import type { BackupContext } from './context.ts'
import type { Manifest, Scope } from './manifest.ts'
import { readLocale, readObjects } from './objects.ts'
import { readRoles, readSequences, settle } from './snapshot.ts'
import { type Held, hold, resolve, type Source } from './source.ts'

const TRIES = 40
const PAUSE_MS = 1_000

/**
 * How long pg_dump waits for a lock. All locks are ours before it asks: it only waits when someone came in between who waits for us (`alter
 * table`, `truncate`), as pg_dump must queue behind him. Then he waits for us, we for pg_dump, and pg_dump for him, and whoever wants to read
 * the table waits with them; so not for long. Where only the structure is taken, nothing is locked yet.
 */
const DUMP_LOCK_WAIT_MS = 500

/** What a backup stands on: a pg_dump that has all its locks, and what was read in its snapshot before it began. */
export type Begun = { held: Held; described: Description; dump: AsyncIterable<Uint8Array> }
export type Description = Pick<Manifest, 'sequences' | 'roles' | 'locale' | 'objects'>

type Beginning = BackupContext & { source: Source; tools: Tools; wanted: { scope: Scope; tables?: readonly string[] } }

/** Takes locks and snapshot, and starts pg_dump in it; all anew, as often as someone changes a table meanwhile. Throws `backup.locked`. */
export async function begin(work: Beginning): Promise<Begun> {
  const { source, wanted, clock, signal } = work
  const { connection } = source
  const named = wanted.scope === 'tables' ? await resolve(connection, wanted.tables ?? []) : undefined
  await settle(connection.query)
  for (let tries = 1; ; tries++) {
    signal.throwIfAborted()
    try {
      const held = await hold(connection, wanted.scope, named)
      const described = await describe(source, wanted.scope)
      return { held, described, dump: await startDump(work, held) }
    } catch (error) {
      if (!isAboutLocks(error)) throw error
      if (tries === TRIES) throw locked(error)
      await connection.query('rollback')
      await clock.sleep(PAUSE_MS, signal)
    }
  }
}

/** Sequences before the dump begins: they are outside of snapshots, and only grow. */
async function describe({ connection: { query } }: Source, scope: Scope): Promise<Description> {
  const all = { sequences: scope === 'full' ? await readSequences(query) : [], roles: await readRoles(query), locale: await readLocale(query) }
  return scope === 'full' ? { ...all, objects: await readObjects(query) } : all
}

/**
 * Everything, for what is left out here no restore brings back: unlogged tables, large objects, and the schemas of the migrations' journal and
 * of the queue, without which Pawl would not know its own database. Of extensions pg_dump writes that they are to be created; of materialized
 * views, that they are to be computed. Publications, subscriptions, owners and grants are left out, where they must be, by pg_restore.
 */
async function startDump(work: Beginning, { snapshot, selection }: Held): Promise<AsyncIterable<Uint8Array>> {
  const total = selection.tables.length
  let done = 0
  let isLocking = false
  const ready = Promise.withResolvers<void>()
  const told = (line: string) => {
    // Of --verbose, the same in all versions: while it reads the tables it locks them, and then it reads on.
    if (isLocking && /: (reading|finding|dumping) /.test(line)) ready.resolve()
    if (line.includes('reading user-defined tables')) isLocking = true
    if (!line.includes('dumping contents of table')) return
    done += 1
    work.told({ step: 'dump', done: Math.min(done, total), total })
  }
  const asked = ['--format=custom', '--compress=0', '--verbose', `--snapshot=${snapshot}`, `--lock-wait-timeout=${DUMP_LOCK_WAIT_MS}`]
  const scope = work.wanted.scope === 'schema' ? ['--schema-only'] : (selection.patterns ?? []).map(pattern => `--table=${pattern}`)
  const dumping = startTool(work.tools, 'pg_dump', [...asked, ...scope], { url: work.config.directUrl ?? '', signal: work.signal, told })
  await Promise.race([ready.promise, dumping.done])
  return dumping.output
}

/** Of our own statements: a lock that did not come, a deadlock, a table that was dropped since it was listed. Of pg_dump: the first. */
function isAboutLocks(error: unknown): boolean {
  if (error instanceof PawlError) return error.code === 'tools.failed' && /statement timeout[^]*LOCK TABLE/.test(error.message)
  return ['55P03', '40P01', '42P01'].includes(codeOf(error) ?? '')
}

function locked(cause: unknown): PawlError {
  return new PawlError('backup.locked', `no moment came at which all tables could be read: ${messageOf(cause)}`, {
    retryable: true,
    hint: "end what holds a table's lock or changes tables all the time: select * from pg_locks where mode = 'AccessExclusiveLock'",
    cause,
  })
}
