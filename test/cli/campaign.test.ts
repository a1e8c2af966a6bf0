import { afterAll, beforeAll, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { runPawl } from '../support/process.ts'

let db: TestDatabase

beforeAll(async () => {
  db = await createDatabase()
})

afterAll(() => db.drop())

const pawl = (words: string[]) => runPawl(['campaign', ...words], db.url)

/** What the command answered to a machine. */
async function asked(words: string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await pawl([...words, '--json'])
  expect([code, stderr]).toEqual([0, ''])
  return JSON.parse(stdout) as Record<string, unknown>
}

test('a campaign is created, gets a timer, has it moved, and shows its timers', async () => {
  const { campaign_id: campaign } = await asked([
    'create',
    '--hours',
    '48',
    '--start',
    '2099-01-01 09:00+01',
    '--no-rewards',
    '--metadata',
    '{"name": "Spring"}',
  ])
  const { timer_id: timer } = await asked(['schedule', String(campaign), 'EXPIRE_CAMPAIGN', '2099-02-01 00:00Z', '--payload', '{"by": "hand"}'])
  expect(await asked(['move', String(timer), '2099-03-01 00:00Z'])).toEqual({ timer_id: timer, done: true })
  const { timers } = (await asked(['timers', String(campaign)])) as { timers: Record<string, unknown>[] }
  expect(timers.map(row => [row.timer_type, row.state, row.scheduled_at])).toEqual([
    ['START_CAMPAIGN', 'pending', '2099-01-01T08:00:00.000Z'],
    ['CLOSE_CAMPAIGN', 'pending', '2099-01-03T08:00:00.000Z'],
    ['EXPIRE_CAMPAIGN', 'pending', '2099-03-01T00:00:00.000Z'],
  ])
  expect((await pawl(['timers'])).stdout).toContain('START_CAMPAIGN')
  const [kept] = await db.query('select metadata, rewards_enabled, auto_close from public.campaigns where id = $1', [campaign])
  expect(kept).toEqual({ metadata: { name: 'Spring' }, rewards_enabled: false, auto_close: true })
})

test.each([
  [['create'], '--hours is missing'],
  [['create', '--hours', '0'], '--hours must be a whole number of 1 or more'],
  [['create', '--hours', '999999'], 'duration_hours must be from 1'],
  [['create', '--hours', '1', '--start', '2001-01-01'], 'in the past'],
  [['create', '--hours', '1', '--start', '2099-02-30'], 'out of range'],
  [['create', '--hours', '1', '--start', 'soon'], 'invalid input syntax'],
  [['create', '--hours', '1', '--metadata', '{oops'], '--metadata is not JSON'],
  [['schedule', '00000000-0000-4000-8000-000000000000', 'START_CAMPAIGN', '2099-01-01'], 'does not exist'],
  [['schedule', '00000000-0000-4000-8000-000000000000', 'PARTY', '2099-01-01'], 'the type must be START_CAMPAIGN'],
  [['move', '00000000-0000-4000-8000-000000000000', '2099-01-01'], 'does not exist'],
  [['dance'], 'campaign has no verb "dance"'],
])('pawl campaign %j is refused: exit code 2, what is wrong and what to do', async (words, message) => {
  const { code, stderr } = await pawl(words)
  expect(code).toBe(2)
  expect(stderr).toContain(message)
  expect(stderr).toContain('next:')
})
