import type { Config } from '../../src/config.ts'
import { connectDirect, type DirectConnection, type Query } from '../../src/database.ts'
import { codeOf, messageOf, PawlError } from '../../src/errors.ts'
import { exitCodes, type Terminal } from '../terminal.ts'
import type { Run } from '../spec.ts'
import { table } from '../table.ts'
import { connected, withDatabaseUrl } from './connect.ts'

const LIMIT = 10

/** How long a statement waits for a lock. Whoever comes behind a waiting lock waits as long. */
const LOCK_TIMEOUT = '3s'

/** Dropping what a failed build left stands in nobody's way, so it may wait longer for the transaction that made the build fail. */
const CLEANING_LOCK_TIMEOUT = '30s'

/** What mends itself. Dropping an index that works is for a person to decide: it may serve a query that runs once a year. */
const MENDED: readonly string[] = ['invalid', 'bloated', 'foreign key', 'document 004', 'statistics']

type Finding = {
  finding: string
  certain: boolean
  relation: string
  index: string | null
  bytes: number | null
  reason: string
  statement: string | null
}

/** One mended finding: `needless` where somebody else, or autovacuum, was faster. `left` names what could not be cleaned away. */
type Outcome = { statement: string; outcome: 'applied' | 'needless' | 'failed'; error?: string; left?: string[] }

/** `pawl optimize`: the index report, and with --apply the mending of what is safe to mend while others work. */
export const optimize: Run = async (terminal, values) => {
  const limit = Number(values.limit ?? LIMIT)
  const findings = await connected(terminal, db => db.query<Finding>('select * from pawl.index_report()'))
  if (values.apply !== true) return advise(terminal, findings)
  const mendable = findings.filter(isMended)
  const outcomes = await apply(await withDatabaseUrl(terminal.config), mendable.slice(0, limit))
  return tell(terminal, findings, outcomes, Math.max(0, mendable.length - limit))
}

function isMended(finding: Finding): finding is Finding & { statement: string } {
  return finding.statement !== null && MENDED.includes(finding.finding)
}

function advise(terminal: Terminal, findings: Finding[]): number {
  const mendable = findings.filter(isMended).length
  if (terminal.json) terminal.out(JSON.stringify({ findings, mendable }))
  else {
    terminal.out(table(findings))
    terminal.say(`nothing was changed; pawl optimize --apply would run ${mendable} of these statements, and never one that drops an index that works`)
  }
  // Advice to drop an index is for people to weigh: whoever asks by exit code asks whether there is something to apply.
  return mendable > 0 ? exitCodes.different : exitCodes.ok
}

function tell(terminal: Terminal, findings: Finding[], outcomes: Outcome[], beyond: number): number {
  const advised = findings.filter(finding => !isMended(finding))
  if (terminal.json) terminal.out(JSON.stringify({ outcomes, advised, beyond_limit: beyond }))
  else {
    terminal.out(outcomes.length === 0 ? 'nothing to apply' : table(outcomes.map(row => ({ ...row, error: row.error ?? '', left: row.left ?? [] }))))
    if (beyond > 0) terminal.say(`${beyond} more are beyond the limit; run it again`)
    if (advised.length > 0) terminal.say(`${advised.length} more findings are advice only: pawl optimize shows them`)
  }
  if (outcomes.some(({ outcome }) => outcome === 'failed')) return exitCodes.failed
  return beyond > 0 ? exitCodes.different : exitCodes.ok
}

/** One after another, on a connection of their own: CONCURRENTLY takes no transaction around it, and may last hours. */
async function apply(config: Config, findings: (Finding & { statement: string })[]): Promise<Outcome[]> {
  if (findings.length === 0) return []
  const connection = await connectDirect(config, 'pawl optimize')
  try {
    await connection.query(`set lock_timeout = '${LOCK_TIMEOUT}'; set statement_timeout = 0`)
    await alone(connection)
    const outcomes: Outcome[] = []
    for (const finding of findings) outcomes.push(await mend(connection.query, finding))
    return outcomes
  } finally {
    await connection.close()
  }
}

/** Two at once would wait for each other's builds and take each other's for leftovers. The lock goes with the connection. */
async function alone({ query }: DirectConnection): Promise<void> {
  const [row] = await query<{ free: boolean }>(`select pg_try_advisory_lock(hashtextextended('pawl optimize', 0)) as free`)
  if (row?.free !== true) throw new PawlError('optimize.running', 'another "pawl optimize --apply" is at work in this database', { hint: 'wait for it to end' })
}

async function mend(query: Query, finding: Finding & { statement: string }): Promise<Outcome> {
  const { statement, relation } = finding
  let before: string[] = []
  try {
    // The statements before this one may have taken hours. Above all, an invalid index may have become a good one.
    if ((await query('select from pawl.index_report() where statement = $1', [statement])).length === 0) return { statement, outcome: 'needless' }
    before = await invalidOf(query, relation)
    await query(statement)
    return { statement, outcome: 'applied' }
  } catch (error) {
    // 42P07: the name is taken, so what bears it is somebody else's, and may be at its building.
    const left = codeOf(error) === '42P07' ? [] : await clean(query, finding, before)
    return { statement, outcome: 'failed', error: messageOf(error), ...(left.length === 0 ? {} : { left }) }
  }
}

/** Drops what a failed CONCURRENTLY left invalid: every write would go on keeping it. Returns what could not be dropped. */
async function clean(query: Query, { relation, index }: Finding, before: string[]): Promise<string[]> {
  const isOurs = (name: string) => name === index || /_cc(new|old)\d*"?$/.test(name)
  const leftovers = await invalidOf(query, relation).then(
    names => names.filter(name => !before.includes(name) && isOurs(name)),
    () => [],
  )
  const left: string[] = []
  // It may be the connection that was lost; then nothing can be dropped, and the next report finds it.
  const patience = (time: string) => query(`set lock_timeout = '${time}'`).catch(() => {})
  await patience(CLEANING_LOCK_TIMEOUT)
  for (const name of leftovers) await query(`drop index concurrently if exists ${name}`).catch(() => left.push(name))
  await patience(LOCK_TIMEOUT)
  return left
}

/** Names ready to stand in a statement. */
async function invalidOf(query: Query, relation: string): Promise<string[]> {
  const rows = await query<{ name: string }>(
    `select format('%I.%I', n.nspname, c.relname) as name
     from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
     where i.indrelid = to_regclass($1) and not (i.indisvalid and i.indisready)`,
    [relation],
  )
  return rows.map(row => row.name)
}
