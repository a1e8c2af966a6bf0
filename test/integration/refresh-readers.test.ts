import { performance } from 'node:perf_hooks'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect, type DirectConnection } from '../../src/database.ts'
import { fromQuery, openRefreshStage, type RefreshStage, registerTable } from '../support/refresh.ts'

const ROWS = 20_000
let stage: RefreshStage

beforeAll(async () => {
  stage = await openRefreshStage()
  await stage.query('create table public.generation (g integer); insert into public.generation values (1)')
  // A tenth of the rows is another in each generation; all carry its number.
  const query = `select i + (i % 10 / 9) * g * 100000 as id, g, 'row ' || i as name from generate_series(1, ${ROWS}) i, public.generation`
  await registerTable(stage.query, 'wall', 'id integer primary key, g integer, name text', fromQuery(query))
  await publish(1)
})
afterAll(() => stage.end())

async function publish(generation: number): Promise<void> {
  await stage.query('update public.generation set g = $1', [generation])
  expect((await stage.refresh('wall')).wall).toMatchObject({ state: 'completed' })
}

const connect = (name: string) => connectDirect(readConfig({ DATABASE_URL: stage.db.url }), name)
type Seen = { rows: number; least: number; most: number; sum: number }
const whole = 'select count(*) as rows, min(g) as least, max(g) as most, sum(g)::bigint as sum from sqp.wall'
const isWhole = ({ rows, least, most, sum }: Seen) => rows === ROWS && least === most && sum === ROWS * least

test('50 publishes of 20,000 rows under four readers: each read sees one generation whole, and REPEATABLE READ the same one twice', async () => {
  let publishing = true
  const found = { reads: 0, torn: [] as Seen[], changed: 0, generations: new Set<number>() }
  const look = async (connection: DirectConnection) => {
    const [seen] = await connection.query<Seen>(whole)
    if (seen === undefined || !isWhole(seen)) found.torn.push(seen ?? { rows: -1, least: -1, most: -1, sum: -1 })
    found.reads += 1
    found.generations.add(seen?.least ?? -1)
    return seen?.least
  }
  const reader = async (repeatable: boolean) => {
    const connection = await connect('reader')
    while (publishing) {
      if (!repeatable) {
        await look(connection)
        continue
      }
      await connection.query('begin isolation level repeatable read')
      const first = await look(connection)
      const [other] = await connection.query<{ name: string | null; g: number }>('select max(name) as name, max(g) as g from sqp.wall where id between 1 and 8')
      const last = await look(connection)
      if (last !== first || other?.g !== first || other?.name !== 'row 8') found.changed += 1
      await connection.query('commit')
    }
    await connection.close()
  }
  const readers = [false, false, true, true].map(reader)
  for (let generation = 2; generation <= 51; generation += 1) await publish(generation)
  publishing = false
  await Promise.all(readers)
  expect(found.torn).toEqual([])
  expect(found.changed).toBe(0)
  expect(found.reads).toBeGreaterThan(200)
  expect(found.generations.size).toBeGreaterThan(25)
}, 240_000)

test('while another session holds the table open, publishing has no read wait for more than 50 ms', async () => {
  const [holder, watched] = [await connect('holder'), await connect('watched')]
  const [{ pid } = { pid: 0 }] = await watched.query<{ pid: number }>('select pg_backend_pid() as pid')
  const waits = { quiet: [] as number[], publishing: [] as number[] }
  let [phase, reading]: ['quiet' | 'publishing', boolean] = ['quiet', true]
  // The time that a read takes, and, apart from it, whether the server has it wait for a lock.
  const reader = async () => {
    while (reading) {
      const [asked, during] = [performance.now(), phase]
      await watched.query('select g, name from sqp.wall where id = 8')
      if (during === phase) waits[during].push(performance.now() - asked)
    }
  }
  let locked = 0
  const watch = async () => {
    const connection = await connect('watch')
    while (reading) {
      const [row] = await connection.query<{ locked: boolean }>('select cardinality(pg_blocking_pids($1)) > 0 as locked', [pid])
      if (row?.locked === true) locked += 1
    }
    await connection.close()
  }
  await holder.query('begin')
  await holder.query('select count(*) from sqp.wall')
  const both = [reader(), watch()]
  for (let generation = 101; generation <= 110; generation += 1) {
    phase = 'quiet'
    // As much work for the machine, on a table that nobody reads.
    await stage.query(`create table if not exists public.aside (id integer primary key, g integer, name text)`)
    await stage.query('truncate public.aside')
    await stage.query(`insert into public.aside select * from sqp.wall`)
    await stage.query('update public.aside set g = g + 1')
    phase = 'publishing'
    await publish(generation)
  }
  reading = false
  await Promise.all(both)
  const [open] = await holder.query<{ open: boolean }>(
    `select count(*) > 0 as open from pg_locks where pid = pg_backend_pid() and relation = 'sqp.wall'::regclass and mode = 'AccessShareLock'`,
  )
  await holder.query('commit')
  await Promise.all([holder.close(), watched.close()])
  const at = (list: number[], part: number) => [...list].sort((a, b) => a - b)[Math.floor(list.length * part)] ?? Number.NaN
  const [quiet, publishing] = [waits.quiet, waits.publishing].map(list => ({
    reads: list.length,
    median: at(list, 0.5),
    p99: at(list, 0.99),
    most: at(list, 0.9999),
  }))
  const measured = JSON.stringify({ quiet, publishing, locked })
  expect(open?.open).toBe(true)
  expect(waits.publishing.length).toBeGreaterThan(500)
  expect(locked, measured).toBe(0)
  expect((publishing?.median ?? 999) - (quiet?.median ?? 0), measured).toBeLessThan(50)
  expect((publishing?.p99 ?? 999) - (quiet?.p99 ?? 0), measured).toBeLessThan(50)
}, 120_000)
