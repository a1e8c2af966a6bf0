import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { migrationsDir } from '../../src/migrate.ts'
import { startReplica } from '../migration/replicas.ts'
import { openStage } from '../migration/stage.ts'
import { createDatabase } from '../support/postgres.ts'
import { runPawl } from '../support/process.ts'
import { until } from '../support/until.ts'

const ROUNDS = Number(process.env.PAWL_TEST_ROUNDS ?? 20)
const REPLICAS = 6
const DATA = '9000_data'

/** The project's own files, and with `data` one more that changes rows: run twice, it would show. */
async function projectFiles(data: boolean): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'pawl-project-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  await cp(migrationsDir(readConfig({})), dir, { recursive: true })
  if (!data) return dir
  const path = join(dir, 'meta', '_journal.json')
  const journal = JSON.parse(await readFile(path, 'utf8')) as { entries: { idx: number; when: number }[] }
  journal.entries.push({ ...journal.entries.at(-1), idx: 9000, when: 1_900_000_000_000, tag: DATA } as (typeof journal.entries)[number])
  await writeFile(path, JSON.stringify(journal))
  await writeFile(join(dir, `${DATA}.sql`), '-- Counts.\nupdate public.system_maintenance_log set affected_rows = affected_rows + 1')
  await writeFile(join(dir, 'down', `${DATA}.sql`), 'update public.system_maintenance_log set affected_rows = affected_rows - 1')
  return dir
}

test(`${ROUNDS} rounds of ${REPLICAS} concurrent "pawl migrate up", on a fresh database and with a data migration: each file is applied once`, {
  timeout: 2_400_000,
}, async () => {
  const [files, withData] = [await projectFiles(false), await projectFiles(true)]
  const totals = { runs: 0, applied: 0, failed: 0 }
  for (let round = 1; round <= ROUNDS; round += 1) {
    const db = await createDatabase({ empty: true })
    try {
      const migrate = async (dir: string) => {
        const outcomes = await Promise.all(
          Array.from({ length: REPLICAS }, () => runPawl(['migrate', 'up', '--json'], db.url, { env: { PAWL_MIGRATIONS_DIR: dir } })),
        )
        totals.runs += outcomes.length
        totals.failed += outcomes.filter(outcome => outcome.code !== 0).length
        expect(outcomes.flatMap(outcome => (outcome.code === 0 ? [] : [outcome.stdout + outcome.stderr]))).toEqual([])
        const applied = outcomes.flatMap(outcome => (JSON.parse(outcome.stdout) as { applied: string[] }).applied)
        totals.applied += applied.length
        return applied
      }
      const fresh = await migrate(files)
      expect(fresh).toEqual([...new Set(fresh)])
      expect(await db.query('select version from pawl.schema_migrations order by journal_when')).toEqual(fresh.map(version => ({ version })))
      await db.query(`insert into public.system_maintenance_log (operation, affected_rows) select 'x', 0 from generate_series(1, 1000)`)
      expect(await migrate(withData)).toEqual([DATA])
      expect(await db.query(`select affected_rows as n, count(*) as rows from public.system_maintenance_log where operation = 'x' group by 1`)).toEqual([
        { n: 1, rows: 1000 },
      ])
      expect(await db.query('select count(*) as n from drizzle.__drizzle_migrations')).toEqual([{ n: fresh.length + 1 }])
    } finally {
      await db.drop()
    }
  }
  console.info(JSON.stringify({ rounds: ROUNDS, replicas: REPLICAS, ...totals }))
})

test(`${ROUNDS} times kill -9 of the one that migrates: another has the lock within a second`, { timeout: 600_000 }, async () => {
  const stage = await openStage()
  const COUNT = {
    tag: '0000_count',
    up: 'create table counts (n integer);\n--> statement-breakpoint\ninsert into counts values (0)',
    down: 'drop table counts',
  }
  const takenMs: number[] = []
  await stage.query('create table pace (n integer); insert into pace values (0)')
  for (let round = 1; round <= ROUNDS; round += 1) {
    const tag = `${String(round).padStart(4, '0')}_slow`
    const done = Array.from({ length: round - 1 }, (_, i) => ({ tag: `${String(i + 1).padStart(4, '0')}_slow`, up: SLOW, down: 'select 1' }))
    await stage.query('update pace set n = 30')
    await stage.write(COUNT, ...done, { tag, up: SLOW, down: 'select 1' })
    const [victim, heir] = await Promise.all([startReplica(stage), startReplica(stage)])
    victim.go()
    await until('the statement runs', async () => (await stage.sessions(`wait_event = 'PgSleep'`)) === 1)
    heir.go()
    await until('two migrators', async () => (await stage.sessions(`application_name = 'pawl migrate'`)) === 2)
    await stage.query('update pace set n = 0')
    const [holder] = await stage.lockHolders()
    const killedAt = performance.now()
    victim.child.kill('SIGKILL')
    await until('another holds the lock', async () => (await stage.lockHolders()).some(pid => pid !== holder))
    takenMs.push(performance.now() - killedAt)
    expect(await heir.outcome).toEqual({ applied: [tag] })
    expect(await victim.outcome).toBeUndefined()
    expect(await stage.query('select n from counts')).toEqual([{ n: round }])
  }
  const sorted = takenMs.map(Math.round).sort((a, b) => a - b)
  console.info(JSON.stringify({ kills: ROUNDS, taken_over_ms: { p50: sorted[Math.floor(sorted.length / 2)], max: sorted.at(-1) } }))
  expect(Math.max(...takenMs)).toBeLessThanOrEqual(1_000)
})

const SLOW = 'update counts set n = n + 1;\n--> statement-breakpoint\nselect pg_sleep(n) from pace'
