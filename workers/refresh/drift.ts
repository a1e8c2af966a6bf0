import type { RunContext } from '../../src/batches.ts'
import { classify, codeOf, messageOf, PawlError } from '../../src/errors.ts'
import type { Settings } from './settings.ts'
import type { Column } from './source.ts'
import type { Target } from './target.ts'

/** Changes of type that keep the table's files as they are. */
const widens = [
  { from: /^character varying\(\d+\)$|^character varying$/, to: /^text$/ },
  { from: /^numeric\(\d+,\d+\)$/, to: /^numeric$/ },
]
/** Those that write the whole table anew, readers waiting: only where the settings allow it. */
const rewrites = [
  { from: /^smallint$/, to: /^(integer|bigint)$/ },
  { from: /^integer$/, to: /^bigint$/ },
  { from: /^real$/, to: /^double precision$/ },
]
const LOCK_TRIES = 60

/** What the audit row should say of it, and whether the table has other columns now. */
export type Drifted = { warnings: string[]; altered: boolean }

/**
 * Brings the table's columns up to what the source delivers, as far as its policy goes. Each change is a transaction of its own,
 * before the data's, and gives up its lock after 100 ms to try again, so that readers wait no longer than that. Returns
 * warnings; throws `refresh.drift` where the policy is to fail, or a view stands in the way. Nothing is ever dropped.
 */
export async function settleDrift(context: RunContext, settings: Settings, target: Target, delivered: readonly Column[]): Promise<Drifted> {
  const warnings: string[] = []
  let altered = false
  for (const column of delivered) {
    const own = target.columns.find(({ name }) => name === column.name)
    if (own?.computed === true) warnings.push(`the source's column ${column.name} is ignored: the table computes its own`)
    else if (own === undefined) {
      if (settings.drift === 'fail')
        throw refused(`the source of ${target.name} has a new column ${column.name} (${column.type})`, 'add it, or set "drift" to add or ignore')
      if (settings.drift === 'ignore') warnings.push(`the source's column ${column.name} is ignored`)
      else altered = await alter(context, target, column)
    } else if (own.type !== column.type && settings.source !== 'sql') {
      const grows = (changes: typeof widens) => changes.some(({ from, to }) => from.test(own.type) && to.test(column.type))
      if (settings.drift === 'add' && (grows(widens) || (settings.allow_rewrite && grows(rewrites)))) altered = await alter(context, target, column)
    }
  }
  const missing = target.columns.filter(({ name }) => !delivered.some(column => column.name === name))
  const needed = missing.filter(({ required }) => required).map(({ name }) => name)
  if (needed.length > 0)
    throw refused(`the source of ${target.name} delivers no ${needed.join(', ')}, which must not be null`, 'deliver it, or give the column a default')
  return { warnings, altered }
}

async function alter({ db, log, clock, drain }: RunContext, target: Target, column: Column): Promise<true> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await db.query('select pawl.widen_refreshed_table($1, $2, $3, $4)', [target.schema, target.table, column.name, column.type])
      log.info({ table: target.name, column: column.name, type: column.type, attempt }, 'column added or widened')
      return true
    } catch (error) {
      // 55P03: a reader holds the table. We have let go of our place in its queue, and ask again.
      const held = codeOf(error) === '55P03'
      if (!held && classify(error) === 'transient') throw error
      // Without the code that has the engine wait for ever: the attempt has failed, another comes after a while.
      if (held && attempt >= LOCK_TRIES) throw new Error(`${target.name} could not be locked to change column ${column.name}: it was in use ${attempt} times`)
      if (!held) {
        throw refused(
          `column ${column.name} of ${target.name} could not become ${column.type}: ${messageOf(error)}`,
          (error as { hint?: string }).hint ?? 'make the change by hand',
        )
      }
      await clock.sleep(100, drain)
    }
  }
}

function refused(message: string, hint: string): PawlError {
  return new PawlError('refresh.drift', message, { hint })
}
