import { patiently, type RunContext } from '../../src/batches.ts'
import type { Query } from '../../src/database.ts'
import { codeOf, FENCE_SQLSTATE, messageOf } from '../../src/errors.ts'
import { applySql } from './difference.ts'
import { judge, type Judged, StagedRowsLost } from './judge.ts'
import { LONG_MS } from './stage.ts'
import { createStaging, describeQuery, dropStaging, fillSql, stagingOf } from './staging.ts'
import { readTarget } from './target.ts'
import { type Prepared, prepared, type StepRow } from './step.ts'
import { quoted } from '../../src/names.ts'
import { putWindow } from './sources/window.ts'
import { windowOf } from './window.ts'

/** Someone else wrote the table between the look and the act. */
class TableMoved extends Error {}

/** Times that a refresh looks again after that. */
const LOOKS_MAX = 3

/** Compares and judges, then changes the table and ends the run in one transaction. */
export async function publishOne(context: RunContext, step: Prepared): Promise<'ended'> {
  const { db, run } = context
  for (let look = 1; ; look += 1) {
    const judged = await patiently(context, () => db.transact(query => judgeOwn(query, context, step), { timeoutMs: LONG_MS }))
    try {
      await patiently(context, () => db.transact(query => publish(query, [judged], run), { timeoutMs: LONG_MS }))
    } catch (error) {
      if (!(error instanceof TableMoved) || look === LOOKS_MAX) throw error
      context.log.warn({ table: step.name }, 'someone wrote the table meanwhile, comparing again')
      continue
    }
    await leave(context, judged)
    return 'ended'
  }
}

/**
 * Judges, and asks at the end whether the run is still ours. Whoever has taken it over makes a difference table of the same name, and may be waiting
 * for us at this moment: were ours committed, he would find the name taken (23505), and the run would fail for it. Last, and not first: nobody who
 * wants to cancel or open the run should wait for a comparison that takes minutes.
 */
async function judgeOwn(query: Query, context: RunContext, step: Prepared): Promise<Judged> {
  const judged = await judge(query, context, step)
  await query('select pawl.hold_run($1, $2)', [context.run.runId, context.run.epoch])
  return judged
}

/** Publishes every table of the group in one transaction, once the last has its rows ready; lies down until then. */
export async function publishGroup(context: RunContext, step: Prepared): Promise<'ended' | 'parked'> {
  for (let look = 1; ; look += 1) {
    const staged = await stageMember(context)
    if (staged.outcome !== 'publish') return staged.outcome === 'waits' ? 'parked' : 'ended'
    try {
      const published = await publishMembers(context, staged.members.map(prepared))
      for (const one of published) await leave(context, one)
      return 'ended'
    } catch (error) {
      if (look === LOOKS_MAX) throw error
      await beforeAnotherLook(context, step, error)
    }
  }
}

type Staged = { outcome: 'waits' | 'skipped' } | { outcome: 'publish'; members: StepRow[] }

async function stageMember(context: RunContext): Promise<Staged> {
  return patiently(context, async () => {
    const [row] = await context.db.query<{ staged: Staged }>('select pawl.stage_refresh($1, $2) as staged', [context.run.runId, context.run.epoch])
    if (row === undefined) throw new Error('pawl.stage_refresh returned no row')
    return row.staged
  })
}

async function publishMembers(context: RunContext, members: readonly Prepared[]): Promise<Judged[]> {
  const group = async (query: Query) => {
    const judged: Judged[] = []
    for (const member of members) {
      // Parents first: the query of a later member sees what an earlier one has just written, and nobody else does yet.
      if (member.settings.source === 'sql') await stageLate(query, context, member, member.settings.query)
      const one = await judge(query, context, member)
      await apply(query, one)
      judged.push(one)
    }
    await endRuns(query, judged, context.run)
    return judged
  }
  return patiently(context, () => context.db.transact(group, { timeoutMs: LONG_MS }))
}

/** Nothing was published. Throws what another look would not mend. */
async function beforeAnotherLook(context: RunContext, step: Prepared, error: unknown): Promise<void> {
  if (error instanceof StagedRowsLost && error.step.run_id !== step.run_id) {
    context.log.warn({ table: error.step.name }, 'staged rows of the group were lost, reading them again')
    await patiently(context, () => context.db.query('select pawl.unstage_refresh($1)', [error.step.run_id]))
  } else if (error instanceof TableMoved) context.log.warn({ reason: error.message }, 'someone wrote a table of the group meanwhile, comparing again')
  // A member was cancelled meanwhile, or we were taken over: pawl.stage_refresh tells which.
  else if (codeOf(error) !== FENCE_SQLSTATE) throw error
}

async function publish(query: Query, judged: readonly Judged[], run: RunContext['run']): Promise<void> {
  for (const one of judged) await apply(query, one)
  await endRuns(query, judged, run)
}

/** Does to the table what was judged, and nothing else: other counts than those judged take all of it back. */
async function apply(query: Query, { step, staging, comparison, counts, first }: Judged): Promise<void> {
  const expect = async (rows: number, statement: string) => {
    if (rows === 0) return
    const [done] = await query<{ rows: number }>(`with done as (${statement} returning 1) select count(*) as rows from done`).catch((error: unknown) => {
      // Someone has inserted the same key; or else the rows themselves are at odds, which looking again will show.
      if (codeOf(error) === '23505') throw new TableMoved(messageOf(error), { cause: error })
      throw error
    })
    if (done?.rows !== rows) throw new TableMoved(`${step.name} was written by someone else: ${done?.rows} rows instead of ${rows}`)
  }
  if (first) {
    const columns = comparison.columns.map(({ name }) => quoted(name)).join(', ')
    await expect(counts.inserted, `insert into ${comparison.relation} (${columns}) overriding system value select ${columns} from ${staging.relation}`)
    return
  }
  const { deleted, updated, inserted } = applySql(comparison)
  await expect(counts.deleted, deleted)
  await expect(counts.updated, updated)
  await expect(counts.inserted, inserted)
}

/** Ends the runs of what was applied, ours under its fence; the others of a group are parked, and nobody's. */
async function endRuns(query: Query, judged: readonly Judged[], run: RunContext['run']): Promise<void> {
  for (const { step, counts, warnings } of judged) {
    const facts = { ...counts, audit_id: step.audit_id, memory_mb: Math.round(process.memoryUsage.rss() / 1e4) / 100, metadata: step.saved.facts ?? {} }
    await query('select pawl.finish_refresh($1, $2, $3, $4)', [step.run_id, step.run_id === run.runId ? run.epoch : null, JSON.stringify(facts), warnings])
  }
}

/** The rows of a query that reads what its own group is about to publish. */
async function stageLate(query: Query, context: RunContext, step: Prepared, text: string): Promise<void> {
  const filled = putWindow(text, windowOf(step, context.clock))
  const columns = await describeQuery(context.db, step.name, filled)
  const staging = stagingOf(step, columns, await readTarget(query, step.schema, step.table, step.settings.key))
  await createStaging(query, staging)
  await query(fillSql(staging, filled), [])
}

async function leave({ db, log }: RunContext, { step, staging, counts, warnings }: Judged): Promise<void> {
  log.info({ table: step.name, ...counts, warnings: warnings.length }, 'table refreshed')
  // What this leaves behind is dropped by a schedule.
  await dropStaging(db.query, staging).catch(() => {})
}
