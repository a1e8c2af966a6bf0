import { afterAll, beforeAll, expect, test } from 'vitest'
import { runPawl } from '../support/process.ts'
import { fromQuery, openRefreshStage, type RefreshStage, registerTable } from '../support/refresh.ts'

let stage: RefreshStage

beforeAll(async () => {
  stage = await openRefreshStage()
  await registerTable(stage.query, 'base', 'id integer primary key', fromQuery('select i as id from generate_series(1, 7) i'))
  await registerTable(stage.query, 'total', 'n bigint primary key', fromQuery('select count(*) as n from sqp.base'), { dependencies: ['sqp.base'] })
})

afterAll(() => stage.end())

const pawl = (words: string[]) => runPawl(['refresh', ...words], stage.db.url)

/** What the command answered to a machine. */
async function asked(words: string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await pawl([...words, '--json'])
  expect([code, stderr]).toEqual([0, ''])
  return JSON.parse(stdout) as Record<string, unknown>
}

test('a refresh is asked for, and its plan, order and history can be read', async () => {
  const { refresh_run: run } = await asked(['run', 'total', '--upstream', 'all'])
  expect(await asked(['plan', String(run)])).toMatchObject({
    steps: [
      { table: 'sqp.base', state: 'ready' },
      { table: 'sqp.total', state: 'waiting', waiting_for: ['sqp.base'] },
    ],
  })
  await stage.work()
  expect(await asked(['plan'])).toMatchObject({
    steps: [
      { table: 'sqp.base', state: 'completed', inserted: 7, updated: 0, deleted: 0, unchanged: 0 },
      { table: 'sqp.total', state: 'completed', inserted: 1 },
    ],
  })
  expect((await pawl(['plan'])).stdout).toMatch(/sqp\.base +completed/)
  const { nodes, edges } = await asked(['graph'])
  expect(nodes).toContainEqual({ table: 'sqp.base', state: 'completed', changed: '+7 ~0 -0' })
  expect(edges).toContainEqual({ parent: 'sqp.base', child: 'sqp.total', hard: true })
  expect((await pawl(['graph'])).stdout).toMatch(/sqp\.base .*→ sqp\.total/)
  expect((await pawl(['graph', '--format', 'svg'])).stdout).toMatch(/^<svg /)
  expect((await pawl(['graph', '--format', 'mermaid'])).stdout).toMatch(/^flowchart LR/)
  expect(await asked(['history', 'total'])).toMatchObject({ attempts: [{ table: 'sqp.total', status: 'success', rows: 1, inserted: 1 }] })
  expect((await pawl(['history'])).stdout).toContain('sqp.base')
})

test.each([
  [['run'], 'the table is missing'],
  [['run', 'nothing'], 'is not registered for refresh'],
  [['run', 'base', '--upstream', 'some'], '--upstream must be stale, all or none'],
  [['plan', 'x'], 'the refresh-run must be a whole number'],
  [['graph', '--format', 'png'], '--format must be text, mermaid or svg'],
  [['dance'], 'refresh has no verb "dance"'],
])('pawl refresh %j is refused: exit code 2, what is wrong and what to do', async (words, message) => {
  const { code, stderr } = await pawl(words)
  expect(code).toBe(2)
  expect(stderr).toContain(message)
  expect(stderr).toContain('next:')
})
