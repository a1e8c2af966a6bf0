import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { parse } from 'yaml'
import { requestOverride, seedCategory } from '../support/overrides.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { startWorker, type WorkerProcess } from '../support/process.ts'
import { promtool, promtoolMissing } from '../support/promtool.ts'
import { until } from '../support/until.ts'

type Rule = { alert: string; expr: string; labels: { severity: string }; annotations: { summary: string; runbook: string } }
type Panel = { id: number; type: string; title: string; datasource?: { uid: string }; targets?: { expr: string; datasource: { uid: string } }[] }

const root = fileURLToPath(new URL('../../', import.meta.url))
const text = (path: string) => readFileSync(join(root, path), 'utf8')
const rules = (parse(text('deploy/monitoring/alerts.yaml')) as { groups: { rules: Rule[] }[] }).groups.flatMap(group => group.rules)
const dashboard = JSON.parse(text('deploy/monitoring/dashboard.json')) as {
  uid: string
  panels: Panel[]
  templating: { list: { name: string; type: string; definition?: string }[] }
}
const expressions = dashboard.panels.flatMap(panel => (panel.targets ?? []).map(target => target.expr))
const alertSections = text('docs/operations.md').split('\n## Alerts\n')[1]?.split('\n## ')[0] ?? ''

let db: TestDatabase
let worker: WorkerProcess
let runId: string
let scraped: string
/** Name → type, as the worker exports them. */
let exported: Map<string, string>

const scrape = async () => (await fetch(`http://127.0.0.1:${worker.httpPort}/metrics`)).text()

beforeAll(async () => {
  db = await createDatabase()
  worker = await startWorker(db.url, { env: { PAWL_SLICE_MS: '0' } })
  runId = await requestOverride(db.query, await seedCategory(db.query, 250))
  await db.query('select pawl.create_campaign(1)')
  scraped = await until('run and timer are counted', async () => {
    const now = await scrape()
    return now.includes('pawl_runs_total{queue="overrides.apply",outcome="completed"} 1') && /^pawl_timers_fired_total 1$/m.test(now) ? now : undefined
  })
  exported = new Map([...scraped.matchAll(/^# TYPE (pawl_\w+) (\w+)$/gm)].map(([, name, type]) => [String(name), String(type)]))
})

afterAll(async () => {
  worker?.signal('SIGKILL')
  await worker?.exited
  await db.drop()
})

const value = (series: string, of = scraped) =>
  Number(
    of
      .split('\n')
      .find(line => line.startsWith(`${series} `))
      ?.slice(series.length),
  )

/** The metrics that a text names: a histogram by any of its three. */
function named(in_: string): string[] {
  const names = [...in_.matchAll(/\bpawl_[a-z_]+\b/g)].map(([name]) => name)
  return [...new Set(names.map(name => (exported.has(name) ? name : name.replace(/_(bucket|sum|count)$/, ''))))].sort()
}

describe('what a worker exports', () => {
  test('tells how long a run waited, how late a timer was, and nothing that has not happened', () => {
    expect(value('pawl_run_wait_seconds_count{queue="overrides.apply"}')).toBe(1)
    expect(value('pawl_run_wait_seconds_sum{queue="overrides.apply"}')).toBeGreaterThanOrEqual(0)
    expect(value('pawl_run_wait_seconds_sum{queue="overrides.apply"}')).toBeLessThan(10)
    expect(value('pawl_timer_lateness_seconds_count')).toBe(1)
    expect(value('pawl_timer_lateness_seconds_sum')).toBeGreaterThanOrEqual(0)
    expect(value('pawl_timer_lateness_seconds_sum')).toBeLessThan(10)
    // From the start with 0: what first shows with a 1 has, for Prometheus, never risen.
    for (const outcome of ['failed', 'lost', 'retry']) expect(value(`pawl_runs_total{queue="overrides.apply",outcome="${outcome}"}`)).toBe(0)
    for (const reason of ['dead', 'hung', 'abandoned']) expect(value(`pawl_rescues_total{reason="${reason}"}`)).toBe(0)
  })

  test('carries no id in any label', () => {
    expect(scraped).not.toContain(runId)
    const labels = new Set([...scraped.matchAll(/^pawl_\w+\{(.*)\} /gm)].flatMap(([, all]) => [...String(all).matchAll(/(\w+)="/g)].map(([, label]) => label)))
    expect([...labels].sort()).toEqual(['check', 'figures', 'kind', 'le', 'node', 'outcome', 'queue', 'reason', 'state', 'version'])
    expect(scraped).not.toMatch(/^pawl_.*"[^"]*[0-9a-f]{8}-[0-9a-f]{4}/m)
  })

  test('agrees with what the database says, figure by figure', async () => {
    expect(value('pawl_schema_migrations')).toBe((await db.query<{ n: number }>('select count(*) as n from pawl.schema_migrations'))[0]?.n)
    expect(value('pawl_workers')).toBe(1)
    const names = ['pawl_stuck_runs', 'pawl_failed_runs', 'pawl_failed_timers', 'pawl_overdue_timers', 'pawl_refresh_overdue', 'pawl_reports_overdue']
    expect(names.map(name => value(name))).toEqual(names.map(() => 0))
    const age = Date.now() / 1000 - value('pawl_figures_read_timestamp_seconds{figures="health"}')
    expect([age >= 0, age < 60]).toEqual([true, true])
  })

  test('counts what is stuck, failed and overdue, as a fresh worker reads it', async () => {
    const lone = await createDatabase()
    onTestFinished(() => lone.drop())
    await lone.query(`select pawl.pause('campaigns.fire')`)
    const campaign = (await lone.query<{ id: string }>('select pawl.create_campaign(1) as id'))[0]?.id
    await lone.query(`update public.campaign_timers set scheduled_at = now() - interval '5 minutes' where campaign_id = $1 and timer_type = 'START_CAMPAIGN'`, [
      campaign,
    ])
    const failed = await requestOverride(lone.query, await seedCategory(lone.query, 10))
    await lone.query(`select pawl.finish($1, null, 'failed', 'on purpose')`, [failed])
    const stuck = await requestOverride(lone.query, await seedCategory(lone.query, 10))
    await lone.query(`delete from pgboss.job`)
    await lone.query(`update pawl.checkpoints set updated_at = now() - interval '5 minutes' where run_id = $1`, [stuck])
    const other = await startWorker(lone.url, { env: {} })
    onTestFinished(async () => {
      other.signal('SIGKILL')
      await other.exited
    })
    const figures = await (await fetch(`http://127.0.0.1:${other.httpPort}/metrics`)).text()
    expect(['pawl_failed_runs', 'pawl_overdue_timers', 'pawl_stuck_runs', 'pawl_workers'].map(name => value(name, figures))).toEqual([1, 1, 1, 1])
    expect(value('pawl_health_ok{check="stuck runs"}', figures)).toBe(0)
    expect(value('pawl_queue_paused{queue="campaigns.fire"}', figures)).toBe(1)
  })
})

describe('what is written about metrics', () => {
  test('every metric of alerts, of their tests and of the dashboard exists', () => {
    const unknown = (in_: string) => named(in_).filter(name => !exported.has(name))
    expect(unknown(rules.map(rule => rule.expr).join('\n'))).toEqual([])
    expect(unknown(text('deploy/monitoring/alerts.test.yaml'))).toEqual([])
    expect(unknown(JSON.stringify(expressions) + JSON.stringify(dashboard.templating))).toEqual([])
    expect(rules.every(rule => named(rule.expr).length > 0)).toBe(true)
  })

  test('the dashboard leaves out none', () => {
    expect(named(expressions.join('\n'))).toEqual([...exported.keys()].sort())
  })

  test('the table of docs/metrics.md lists exactly those that are exported, with their types', () => {
    const rows = [...text('docs/metrics.md').matchAll(/^\| `(pawl_\w+)` \| (\w+)/gm)].map(([, name, type]) => [name, type])
    expect(rows.sort()).toEqual([...exported].sort())
  })

  test('no other page names a metric that does not exist', () => {
    const metricLike = /\bpawl_\w+_(total|seconds|bytes|bucket|jobs|slots|overdue|info)\b/g
    const pages = globSync(['*.md', 'docs/**/*.md', 'deploy/**/*.{md,yaml}'], { cwd: root })
    expect(pages).toContain('docs/metrics.md')
    const unknown = pages.flatMap(page =>
      [...text(page).matchAll(metricLike)].flatMap(([name]) =>
        named(name)
          .filter(one => !exported.has(one))
          .map(one => `${page}: ${one}`),
      ),
    )
    expect(unknown).toEqual([])
  })
})

describe('alerts', () => {
  const names = rules.map(rule => rule.alert).sort()

  test('each has a severity, a summary and a runbook: a section of docs/operations.md with a query', () => {
    expect(names.length).toBeGreaterThanOrEqual(13)
    for (const { alert, labels, annotations } of rules) {
      expect(['critical', 'warning'], alert).toContain(labels.severity)
      expect(annotations.summary.length, alert).toBeGreaterThan(15)
      expect(annotations.runbook, alert).toBe(`docs/operations.md#${alert.toLowerCase()}`)
      expect(alertSections.split(`\n### ${alert}\n`)[1]?.split('\n### ')[0], `the section of ${alert}`).toContain('```sql')
    }
  })

  test('those of the rules, of the runbook, of docs/metrics.md and of the unit tests are the same', () => {
    expect([...alertSections.matchAll(/^### (\w+)$/gm)].map(([, name]) => name).sort()).toEqual(names)
    const table = text('docs/metrics.md').split('\n## Alerts\n')[1]?.split('\n## ')[0] ?? ''
    expect([...table.matchAll(/^\| ([A-Z]\w+) \| (critical|warning) \|/gm)].map(([, name, severity]) => `${name} ${severity}`).sort()).toEqual(
      rules.map(rule => `${rule.alert} ${rule.labels.severity}`).sort(),
    )
    const fired = text('deploy/monitoring/alerts.test.yaml').matchAll(/alertname: (\w+)\n\s+exp_alerts:\n/g)
    expect([...new Set([...fired].map(([, name]) => name))].sort()).toEqual(names)
  })

  test('every query of the runbook runs', async () => {
    const queries = [...alertSections.matchAll(/```sql\n([\s\S]*?)```/g)].map(([, sql]) => String(sql))
    expect(queries).toHaveLength(names.length)
    for (const sql of queries) await expect(db.query(sql), sql).resolves.toBeDefined()
  })
})

test('the dashboard has its rows, one uid, no panel twice, and takes its data from wherever the reader says', () => {
  expect(dashboard.uid).toBe('pawl-overview')
  expect(dashboard.panels.filter(panel => panel.type === 'row').map(panel => panel.title)).toEqual([
    'Backlog',
    'Throughput',
    'Latency',
    'Workloads',
    'Worker',
    'Database',
    'Backups',
  ])
  expect(new Set(dashboard.panels.map(panel => panel.id)).size).toBe(dashboard.panels.length)
  const sources = dashboard.panels.flatMap(panel => [panel.datasource?.uid, ...(panel.targets ?? []).map(target => target.datasource.uid)])
  expect(new Set(sources.filter(uid => uid !== undefined))).toEqual(new Set(['${datasource}']))
  expect(dashboard.templating.list.map(variable => variable.name)).toEqual(['datasource', 'job', 'queue'])
})

describe.skipIf(promtoolMissing())('promtool', () => {
  const monitoring = (file: string) => join(root, 'deploy/monitoring', file)

  test('accepts the rules, and every one behaves as its unit tests say', () => {
    expect(promtool(['check', 'rules', monitoring('alerts.yaml')])).toMatchObject({ ok: true, said: expect.stringContaining(`${rules.length} rules found`) })
    expect(promtool(['test', 'rules', monitoring('alerts.test.yaml')])).toMatchObject({ ok: true, said: expect.stringContaining('SUCCESS') })
  })

  test('finds nothing to complain of in our metrics: names, units, help', () => {
    const ours = scraped
      .split('\n')
      .filter(line => /^(# (HELP|TYPE) )?pawl_/.test(line))
      .join('\n')
    expect(promtool(['check', 'metrics'], `${ours}\n`)).toEqual({ ok: true, said: '' })
    // What it would say if there were something.
    expect(promtool(['check', 'metrics'], '# TYPE pawl_things counter\npawl_things 1\n').ok).toBe(false)
  })

  test('can parse every expression of the dashboard', () => {
    const directory = mkdtempSync(join(tmpdir(), 'pawl-monitoring-'))
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
    const file = join(directory, 'dashboard.yaml')
    const recorded = expressions.map((expr, place) => ({ record: `panel:${place}`, expr: expr.replaceAll('$__rate_interval', '5m') }))
    writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules: recorded }] }))
    expect(promtool(['check', 'rules', file])).toMatchObject({ ok: true })
  })
})
