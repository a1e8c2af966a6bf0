import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { upgrade } from '../bin/commands/migrate.ts'
import type { RunContext } from '../src/batches.ts'
import { openRun } from '../src/checkpoint.ts'
import { systemClock } from '../src/clock.ts'
import { type Config, readConfig } from '../src/config.ts'
import { connectDirect, type Database, openDatabase } from '../src/database.ts'
import { type EmbeddedServer, startEmbedded } from '../src/embedded.ts'
import { openLog } from '../src/log.ts'

/** A server of the benchmark's own, durable and with room, migrated, and a lease that every run may be opened under. */
export type BenchStage = { server: EmbeddedServer; config: Config; db: Database; lease: number; postmaster: number; close(): Promise<void> }

export async function openBenchStage(): Promise<BenchStage> {
  const log = openLog({ level: 'silent' })
  const settings = {
    fsync: 'on',
    synchronous_commit: 'on',
    full_page_writes: 'on',
    shared_buffers: '2GB',
    max_wal_size: '8GB',
    checkpoint_timeout: '30min',
    autovacuum: 'off',
  }
  const server = await startEmbedded({ log, ephemeral: true, settings })
  const config = readConfig({ DATABASE_URL: server.url })
  await upgrade(config, log)
  const db = openDatabase({ ...config, queryTimeoutMs: 0 }, log, { max: 6 })
  const connection = await connectDirect(config, 'bench lease')
  const [row] = await connection.query<{ id: number }>(
    `insert into pawl.leases (name, host, pid, version, queues) values ('bench', 'bench', 0, 'bench', '{}') returning id`,
  )
  await connection.query('select pg_advisory_lock(1885435756, $1)', [row?.id])
  return {
    server,
    config,
    db,
    lease: row?.id ?? 0,
    postmaster: Number(readFileSync(join(server.dataDir, 'postmaster.pid'), 'utf8').split('\n')[0]),
    async close() {
      await connection.close()
      await db.close()
      await server.stop()
    },
  }
}

/** Opens a run as a worker does, without pg-boss's claim, and gives what its work gets. */
export async function openContext({ db, config, lease }: BenchStage, runId: string, changes: Partial<Config> = {}): Promise<RunContext> {
  const opening = await openRun(db, { runId, jobId: '00000000-0000-0000-0000-000000000000', jobAttempt: 0 }, lease, 3_600_000)
  if (opening.outcome !== 'opened') throw new Error(`the run was not opened: ${opening.outcome}`)
  return {
    run: opening.run,
    config: { ...config, ...changes },
    db,
    log: openLog({ level: 'error', destination: 2 }),
    clock: systemClock,
    drain: new AbortController().signal,
    turn: new AbortController().signal,
    committed() {},
  }
}
