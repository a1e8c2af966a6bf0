import type { Config } from '../../src/config.ts'
import { type Daemon, startDaemon } from '../../src/daemon.ts'
import { type Database, openDatabase } from '../../src/database.ts'
import { type EmbeddedServer, startEmbedded } from '../../src/embedded.ts'
import { PawlError } from '../../src/errors.ts'
import { openLog } from '../../src/log.ts'
import type { RunRow } from '../../src/status.ts'
import { loops, workers } from '../../workers/index.ts'
import { sampleCampaigns, startSampleCampaigns } from '../../workers/campaigns/sample.ts'
import { loadOverrideSample, requestSampleOverrides } from '../../workers/overrides/sample.ts'
import { refreshSample } from '../../workers/refresh/sample-tables.ts'
import { writeSampleFiles } from '../../workers/refresh/sample.ts'
import { executeSampleReports, loadReportSample, sampleReports } from '../../workers/reports/sample.ts'
import { follow, type Look } from '../follow.ts'
import { ownDir } from '../own-dir.ts'
import { exitCodes, type Terminal } from '../terminal.ts'
import type { Run } from '../spec.ts'
import { bar } from '../table.ts'
import { shutdownSignal } from '../signals.ts'
import { upgrade } from './migrate.ts'
import { runLine } from './status.ts'

/** A demonstration that has not ended after this long has gone wrong. */
const SAMPLE_PATIENCE_MS = 180_000

/** `pawl dev`: what `npm start` runs. Embedded PostgreSQL unless DATABASE_URL is set, sample data, a worker, live progress. */
export const dev: Run = async (terminal, values) => {
  const stop = shutdownSignal()
  const { config, server } = await serverFor(terminal)
  try {
    return await demonstrate({ ...terminal, config }, stop, values.once === true, server !== undefined)
  } finally {
    await server?.stop()
  }
}

async function serverFor(terminal: Terminal): Promise<{ config: Config; server: EmbeddedServer | undefined }> {
  const { config, log, say } = terminal
  if (config.databaseUrl !== undefined) return { config, server: undefined }
  if (!config.embeddedAllowed) {
    throw new PawlError('database.missing', 'DATABASE_URL is not set, and the embedded PostgreSQL is for development only', {
      hint: 'set DATABASE_URL=postgres://user:password@host:5432/name',
    })
  }
  const server = await startEmbedded({ log, ...(config.dataDir === undefined ? {} : { dataDir: config.dataDir }) })
  say(`PostgreSQL ${server.adopted ? 'found running' : 'started'} (embedded, data in ${server.dataDir})`)
  return { config: { ...config, databaseUrl: server.url, directUrl: server.url }, server }
}

async function demonstrate(terminal: Terminal, stop: Promise<NodeJS.Signals>, once: boolean, isEmbedded: boolean): Promise<number> {
  const { config, log, say } = terminal
  const gap = () => (terminal.json ? undefined : terminal.out(''))
  const applied = await upgrade(config, log)
  say(applied.length > 0 ? `schema: applied ${applied.length} migrations` : 'schema: up to date')
  const db = openDatabase(config, log, { name: 'pawl dev', max: 2 })
  let daemon: Daemon | undefined
  try {
    if (await loadOverrideSample(db)) say('sample data: 55,600 recipients in 5 categories')
    if (await loadReportSample(db)) say('sample organization: Acme Retail, with 5 reports')
    const reportStore = config.reportStore ?? (await ownDir('reports'))
    daemon = await startWorker({ ...config, reportStore })
    const runs = await requestSampleOverrides(db)
    const campaigns = await startSampleCampaigns(db)
    const dir = await ownDir('sample')
    await writeSampleFiles(dir)
    say(`sample files: 610,000 rows of Amazon Search Query Performance in ${dir}`)
    const refresh = await refreshSample(db, dir)
    say(`worker ${daemon.workerName} ready; http://127.0.0.1:${daemon.httpPort}/readyz and /metrics\n`)
    const stopped = new AbortController()
    void stop.then(() => stopped.abort())
    const { signal } = stopped
    const overridden = await follow(terminal, () => overridesNow(db, runs, terminal.color), signal, SAMPLE_PATIENCE_MS)
    gap()
    const refreshed = await follow(terminal, () => refreshNow(db, refresh), signal, SAMPLE_PATIENCE_MS)
    gap()
    // They show what the refresh has filled.
    const since = await executeSampleReports(db)
    const reported = await follow(terminal, () => reportsNow(db, since), signal, SAMPLE_PATIENCE_MS)
    gap()
    const fired = await follow(terminal, () => campaignsNow(db, campaigns), signal, SAMPLE_PATIENCE_MS)
    const done = fired && overridden && refreshed && reported
    if (terminal.json)
      terminal.out(JSON.stringify({ ok: done, overrides: overridden, refresh: refreshed, reports: reported, campaigns: fired, runs, refresh_run: refresh }))
    if (!once) {
      // Whose database it is not made here, knows its password.
      const url = isEmbedded ? config.databaseUrl : config.databaseUrl?.replace(/:[^:@/]*@/, '@')
      say(
        `\n  psql '${url}'\n  select * from pawl.runs;  select pawl.why('${runs[0]}');  select pawl.request_override(1, 1);  select pawl.create_campaign(48);  select pawl.refresh_table('weekly_summary');\n  reports are in ${reportStore}\n\nworking until Ctrl-C`,
      )
      await stop
    }
    return done || !once ? exitCodes.ok : exitCodes.failed
  } finally {
    await daemon?.drain('end')
    await db.close()
  }
}

/** The probes' port is a convenience here: when another process has it, any free one will do. */
async function startWorker(config: Config): Promise<Daemon> {
  const log = openLog({ level: 'warn', destination: 2 })
  const options = { log, workers, loops }
  try {
    return await startDaemon({ ...options, config: { ...config, httpHost: '127.0.0.1' } })
  } catch (error) {
    if ((error as { code?: string }).code !== 'EADDRINUSE') throw error
    return startDaemon({ ...options, config: { ...config, httpHost: '127.0.0.1', httpPort: 0 } })
  }
}

async function overridesNow(db: Database, ids: string[], color: boolean): Promise<Look> {
  const runs = await db.query<RunRow>(`select * from pawl.runs where kind = 'override' and run_id = any ($1) order by array_position($1, run_id)`, [ids])
  return {
    lines: runs.map(run => runLine(run, color)),
    over: runs.every(run => run.finished_at !== null),
    well: runs.every(run => run.state === 'completed'),
  }
}

async function refreshNow(db: Database, run: number): Promise<Look> {
  type StepRow = { table: string; state: string; changed: string | null; share: number; finished_at: Date | null; error: string | null }
  const steps = await db.query<StepRow>(
    `select p."table", p.state, '+' || p.inserted || ' ~' || p.updated || ' -' || p.deleted || ' =' || p.unchanged as changed,
       coalesce(r.percent, 0)::float8 / 100 as share, p.finished_at, p.error
     from pawl.refresh_plan p join pawl.runs r using (run_id) where p.run = $1 order by p.urgency, p.run_id`,
    [run],
  )
  return {
    lines: steps.map(
      ({ table, state, changed, share, error }) => `${state.padEnd(9)} ${bar(share)}  ${table.padEnd(32)} ${changed ?? ''}${error === null ? '' : ` ${error}`}`,
    ),
    over: steps.every(step => step.finished_at !== null),
    well: steps.every(step => step.state === 'completed' || step.state === 'warning'),
  }
}

async function reportsNow(db: Database, since: Date): Promise<Look> {
  const reports = await sampleReports(db, since)
  return {
    lines: reports.map(
      ({ name, state, format, rows, bytes, url, error }) =>
        `${state.padEnd(9)} ${name.padEnd(20)} ${format.padEnd(5)} ${error ?? `${rows} rows, ${bytes} bytes  ${url}`}`,
    ),
    over: reports.length === 5 && reports.every(report => report.finished),
    well: reports.every(report => report.state === 'completed'),
  }
}

async function campaignsNow(db: Database, ids: string[]): Promise<Look> {
  const campaigns = await sampleCampaigns(db, ids)
  const over = campaigns.every(campaign => campaign.over)
  return { lines: campaigns.flatMap(({ name, path, timers }) => [`${name.padEnd(14)} ${path}`, `${' '.repeat(14)} late: ${timers}`]), over, well: over }
}
