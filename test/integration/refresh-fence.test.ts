import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadTable } from '../../workers/refresh/load.ts'
import { takeLease, workAll, workOne } from '../support/engine.ts'
import { fromQuery, openRefreshStage, type RefreshStage, registerTable } from '../support/refresh.ts'
import { interrupted, takeOver } from '../support/takeover.ts'

let stage: RefreshStage

beforeAll(async () => {
  stage = await openRefreshStage()
})

afterAll(() => stage.end())

/** Registers a table with three rows to be read, and asks for its refresh; the run's id. */
async function ask(table: string): Promise<string> {
  await registerTable(stage.query, table, 'id integer primary key, name text', fromQuery(`select i as id, 'row ' || i as name from generate_series(1, 3) i`))
  await stage.query('select pawl.refresh_table($1)', [table])
  const [row] = await stage.query<{ run_id: string }>('select run_id from pawl.refresh_steps where table_name = $1', [`sqp.${table}`])
  return row?.run_id ?? ''
}

test.each(['pawl.advance_refresh', 'pawl.finish_refresh'])(
  'a worker that is taken over at %s publishes nothing, and the run goes on as its heir’s',
  async words => {
    const table = words.replace('pawl.', 'at_')
    const runId = await ask(table)
    const dying = await takeLease(stage.db, 'dying', ['refresh.load'])
    let owner: Record<string, unknown> = {}
    const db = interrupted(stage.db, words, {
      async before() {
        const { heir, epoch } = await takeOver(stage.db, dying, runId)
        owner = { state: 'running', owner: heir.id, epoch, done: 0 }
      },
    })
    expect(await workOne(loadTable, { ...stage.options, db, lease: () => dying.id })).toEqual({ status: 'completed', output: { outcome: 'lost' } })
    expect(await stage.query('select state, owner, epoch, done from pawl.checkpoints where run_id = $1', [runId])).toEqual([owner])
    expect(await stage.query(`select * from sqp.${table}`)).toEqual([])
    expect(await stage.query('select outcome, rows_inserted from pawl.refresh_steps where run_id = $1', [runId])).toEqual([
      { outcome: null, rows_inserted: null },
    ])
  },
)

test('a refresh that was cancelled while its difference was computed publishes nothing', async () => {
  const runId = await ask('cancelled_late')
  // The last look before publishing has been taken: this one comes before it.
  const db = interrupted(stage.db, 'pawl.stop_reason', { before: () => stage.query('select pawl.cancel($1, $2)', [runId, 'not now']) })
  await workOne(loadTable, { ...stage.options, db })
  expect(await stage.query('select state from pawl.checkpoints where run_id = $1', [runId])).toEqual([{ state: 'cancelled' }])
  expect(await stage.query('select * from sqp.cancelled_late')).toEqual([])
})

test('staged rows that are gone when a later attempt comes to publish them are read again', async () => {
  const runId = await ask('staged')
  // Handed back between reading and publishing, as by a deploy.
  const drain = new AbortController()
  const db = interrupted(stage.db, 'set loaded = true', { after: async () => drain.abort() })
  await workOne(loadTable, { ...stage.options, db, drain: drain.signal })
  const [step] = await stage.query<{ loaded: boolean; relation: string }>(
    `select loaded, (
       select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
       where n.nspname = 'pawl_stage' and c.relkind = 'r' order by c.oid desc limit 1
     ) as relation
     from pawl.refresh_steps where run_id = $1`,
    [runId],
  )
  expect(step).toMatchObject({ loaded: true })
  // Unlogged tables are empty after a crash of the server.
  await stage.query(`truncate ${step?.relation}`)
  expect(await workAll(loadTable, stage.options)).toEqual(['completed'])
  expect(await stage.query('select count(*) as rows from sqp.staged')).toEqual([{ rows: 3 }])
})
