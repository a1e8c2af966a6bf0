import type { Clock } from '../clock.ts'
import type { Query } from '../database.ts'
import { classify, codeOf, messageOf, PawlError } from '../errors.ts'
import { recordChanges, structureBefore } from './drift.ts'
import { prepareSession, requireLock } from './exclusive.ts'
import type { Log } from '../log.ts'
import type { MigrationFile, Statement } from './files.ts'
import { markRestorePoint, type RestorePoint } from './restore-point.ts'
import { backoffMs } from '../retry.ts'

/** One file to run, and how to record that it ran: `record` is part of the file's own transaction. */
export type Application = { tag: string; file: MigrationFile; record: (query: Query, durationMs: number) => Promise<void> }

/** `restorePoint` is the place in the WAL before the first statement of a file that deletes data, where one could be made. */
export type Outcome = { durationMs: number; tries: number; restorePoint: RestorePoint | undefined }

const TRIES_MAX = 10
/** lock_not_available, deadlock_detected: somebody was in the way, nothing is wrong with the file. */
const IN_THE_WAY = ['55P03', '40P01']

/**
 * Runs one file and records it. A statement that waits for a table lock makes every later query on that table wait behind it,
 * so it gives up after 3 s and the whole file is tried again a little later, ten times. A file that deletes data gets a restore point first.
 * Throws `migrate.blocked` after that, `migrate.failed` when a statement fails.
 */
export async function applyFile(context: { clock: Clock; log: Log }, query: Query, application: Application): Promise<Outcome> {
  await prepareSession(query)
  const restorePoint = application.file.destructive ? await markRestorePoint(context.log, query, application.tag) : undefined
  const startedAt = context.clock.elapsed()
  const durationMs = () => context.clock.elapsed() - startedAt
  const run = application.file.transactional ? runInTransaction : runStatements
  const before = await structureBefore(query)
  const record = async (query: Query, durationMs: number) => {
    await application.record(query, durationMs)
    await recordChanges(query, before)
  }
  const tries = await run(context, query, { ...application, record }, durationMs).catch(async error => {
    // What stands of a file that failed half-way would look as if it had been there before, the next time.
    if (!application.file.transactional) await transact(query, application.tag, () => recordChanges(query, before)).catch(() => {})
    throw error
  })
  return { durationMs: Math.round(durationMs()), tries, restorePoint }
}

type Run = (context: { clock: Clock; log: Log }, query: Query, application: Application, durationMs: () => number) => Promise<number>

/** The usual way: the statements, both records and the lock that allows them in one transaction. */
const runInTransaction: Run = (context, query, application, durationMs) =>
  patiently(context, application.tag, () =>
    transact(query, application.tag, async () => {
      for (const statement of application.file.statements) await runStatement(query, application, statement)
      await requireTransaction(query, application.tag)
      await application.record(query, durationMs())
    }),
  )

/** For what PostgreSQL refuses inside a transaction: each statement by itself, the record when all of them stand. */
const runStatements: Run = async (context, query, application, durationMs) => {
  let tries = 1
  const indexes: ConcurrentIndex[] = []
  for (const statement of application.file.statements) {
    const index = concurrentIndex(statement.text)
    if (index !== undefined) indexes.push(index)
    // Building concurrently waits for old transactions under a lock that blocks no one; giving up would leave an invalid index.
    const lockTimeout = /\bconcurrently\b/i.test(statement.text) ? '0' : '3s'
    const tried = await patiently(context, application.tag, async () => {
      await requireLock(query)
      if (index !== undefined) await dropInvalid(context.log, query, index)
      await query(`set lock_timeout = '${lockTimeout}'`)
      await runStatement(query, application, statement)
    }).catch(async error => {
      // Left behind, an invalid unique index goes on refusing rows. If this fails too, the next `up` drops it.
      if (index !== undefined) await dropInvalid(context.log, query, index).catch(() => {})
      throw error
    })
    tries = Math.max(tries, tried)
  }
  for (const index of indexes) {
    const [invalid] = await invalidIndexes(query, index)
    if (invalid === undefined) continue
    throw new PawlError('migrate.failed', `migration ${application.tag} left the index ${invalid} invalid; it is not recorded as applied`, {
      hint: 'see why the build failed, then run pawl migrate up again: it drops the invalid index and builds it anew',
    })
  }
  await transact(query, application.tag, () => application.record(query, durationMs()))
  return tries
}

async function transact(query: Query, tag: string, work: () => Promise<void>): Promise<void> {
  await query(`begin isolation level read committed read write; set local lock_timeout = '3s';
    set local idle_in_transaction_session_timeout = '60s'; set local pawl.migration = '${tag}'`)
  try {
    await requireLock(query)
    await work()
    await query('commit')
  } catch (error) {
    await query('rollback').catch(() => {})
    throw error
  }
}

/** `pawl.migration` dies with the transaction that set it: when it is gone, a statement of the file has ended that transaction. */
async function requireTransaction(query: Query, tag: string): Promise<void> {
  const [row] = await query<{ same: boolean | null }>(`select current_setting('pawl.migration', true) = $1 as same`, [tag])
  if (row?.same) return
  throw new PawlError('migrate.failed', `migration ${tag} ended its own transaction; what it did before is applied, but not recorded`, {
    hint: 'take the end of the transaction out of the file, and undo by hand what it left behind',
  })
}

async function runStatement(query: Query, { tag, file }: Application, statement: Statement): Promise<void> {
  try {
    await query(statement.text)
  } catch (error) {
    if (IN_THE_WAY.includes(codeOf(error) ?? '')) throw error
    const position = Number((error as { position?: string }).position ?? 1)
    const line = statement.line + statement.text.slice(0, position - 1).split('\n').length - 1
    const kept = file.transactional
      ? 'nothing of the file was applied'
      : 'the statements before it are applied and will run again, so each must bear that (if not exists, if exists)'
    const hint = (error as { hint?: string }).hint
    throw new PawlError('migrate.failed', `migration ${tag} failed at line ${line}: ${messageOf(error)}`, {
      hint: hint === undefined ? kept : `${hint}; ${kept}`,
      retryable: classify(error) === 'transient',
      cause: error,
    })
  }
}

async function patiently({ clock, log }: { clock: Clock; log: Log }, tag: string, work: () => Promise<void>): Promise<number> {
  for (let tries = 1; ; tries++) {
    try {
      await work()
      return tries
    } catch (error) {
      const code = codeOf(error) ?? ''
      if (!IN_THE_WAY.includes(code)) throw error
      if (tries === TRIES_MAX) {
        throw new PawlError('migrate.blocked', `migration ${tag} could not get its locks in ${TRIES_MAX} tries: ${messageOf(error)}`, {
          hint: 'end or wait for what holds them: select pid, state, xact_start, query from pg_stat_activity where xact_start is not null order by xact_start',
          retryable: true,
          cause: error,
        })
      }
      log.warn({ migration: tag, code, tries, tries_max: TRIES_MAX }, 'migration is blocked and will be tried again')
      await clock.sleep(backoffMs(tries, 500, 4_000))
    }
  }
}

type ConcurrentIndex = { name: string; table: string }

const IDENTIFIER = String.raw`(?:"(?:[^"]|"")+"|[\w$]+)`
const CONCURRENT_INDEX = new RegExp(
  String.raw`^(?:\s|--[^\n]*\n|/\*[\s\S]*?\*/)*create\s+(?:unique\s+)?index\s+concurrently\s+(?:if\s+not\s+exists\s+)?(${IDENTIFIER})\s+on\s+(?:only\s+)?(${IDENTIFIER}(?:\s*\.\s*${IDENTIFIER})?)`,
  'i',
)

/** The name and table of a `create index concurrently`, or undefined for any other statement. */
export function concurrentIndex(text: string): ConcurrentIndex | undefined {
  const [, name, table] = CONCURRENT_INDEX.exec(text) ?? []
  if (name === undefined || table === undefined) return undefined
  return { name: name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name.toLowerCase(), table }
}

/** An index lives in the schema of its table, and its name is unique there, whatever table it was once begun on. */
async function invalidIndexes(query: Query, { name, table }: ConcurrentIndex): Promise<string[]> {
  const rows = await query<{ name: string }>(
    `select format('%I.%I', n.nspname, c.relname) as name
    from pg_index i
    join pg_class c on c.oid = i.indexrelid
    join pg_namespace n on n.oid = c.relnamespace
    where not i.indisvalid
      and c.relname = $1
      and c.relnamespace = (select relnamespace from pg_class where oid = to_regclass($2))`,
    [name, table],
  )
  return rows.map(row => row.name)
}

/** `if not exists` would take the invalid leftover of a build that was killed for the index, and never finish it. */
async function dropInvalid(log: Log, query: Query, index: ConcurrentIndex): Promise<void> {
  for (const name of await invalidIndexes(query, index)) {
    log.warn({ index: name }, 'an invalid index of an interrupted build is dropped')
    await query(`set lock_timeout = 0; set statement_timeout = 0`)
    await query(`drop index concurrently if exists ${name}`)
  }
}
