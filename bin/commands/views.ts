import type { Query } from '../../src/database.ts'
import { exitCodes, type Values } from '../terminal.ts'
import type { Run } from '../spec.ts'
import { table } from '../table.ts'
import { show } from '../watch.ts'
import { connected } from './connect.ts'

type Row = Record<string, unknown>

/** How a view is asked, and which of its columns people get; machines get all, under `key`. */
type View = { ask(values: Values, words: string[]): { text: string; values: unknown[] }; columns?: readonly string[] }

const LIMIT = '50'

/** What an option with several values holds; null when it was not given, which in these statements means any. */
const listOf = (value: Values[string]) => value ?? null

const views: Readonly<Record<string, View>> = {
  runs: {
    ask: ({ state, kind, since, limit }) => ({
      text: `select * from pawl.runs
             where ($1::text[] is null or state = any ($1)) and ($2::text[] is null or kind = any ($2))
               and ($3::interval is null or requested_at > now() - $3::interval)
             order by requested_at desc limit $4`,
      values: [listOf(state), listOf(kind), since ?? null, limit ?? LIMIT],
    }),
    columns: ['state', 'kind', 'subject', 'done', 'total', 'percent', 'rows_per_second', 'eta', 'worker', 'run_id', 'error'],
  },
  stuck: { ask: ({ limit }) => ({ text: 'select * from pawl.stuck limit $1', values: [limit ?? LIMIT] }) },
  failures: {
    ask: ({ since, kind, limit }) => ({
      text: `select * from pawl.failures
             where ($1::interval is null or failed_at > now() - $1::interval) and ($2::text[] is null or kind = any ($2))
             order by failed_at desc limit $3`,
      values: [since ?? null, listOf(kind), limit ?? LIMIT],
    }),
  },
  timers: {
    ask: (values, [campaign]) => (values.late === undefined ? timers(values, campaign) : lateness(values.late, campaign)),
    columns: ['state', 'timer_type', 'scheduled_at', 'due_at', 'late_ms', 'retry_count', 'timer_id', 'campaign_id', 'error', 'count', 'median_ms', 'worst_ms'],
  },
  queues: { ask: () => ({ text: 'select * from pawl.queues order by queue', values: [] }) },
  workers: {
    ask: () => ({ text: 'select * from pawl.workers', values: [] }),
    columns: ['name', 'state', 'runs', 'host', 'pid', 'version', 'started_at', 'seen_at'],
  },
  schedules: { ask: () => ({ text: 'select * from pawl.schedules', values: [] }), columns: ['schedule', 'cron', 'timezone', 'queue', 'last_run_at'] },
  tables: {
    ask: ({ stale }, [name]) => ({
      text: `select * from pawl.tables
             where (not $1 or stale) and ($2::text is null or $2 in ("table", split_part("table", '.', 2)))
             order by stale desc, due_at nulls last, "table"`,
      values: [stale === true, name ?? null],
    }),
  },
}

function timers({ state, next, limit }: Values, campaign: string | undefined) {
  // Two walks of an index: sorted together, all that ever fired would be read.
  const where = `($1::uuid is null or campaign_id = $1::uuid) and ($2::text[] is null or state = any ($2))`
  const waiting = `select * from pawl.timers where ${where} and state = 'pending' and ($3::interval is null or due_at < now() + $3::interval) order by due_at limit $4`
  const rest = `select * from pawl.timers where ${where} and state <> 'pending' and $3::interval is null order by scheduled_at desc limit $4`
  return {
    text: `select * from ((${waiting}) union all (${rest})) t
           order by state <> 'pending', case when state = 'pending' then due_at end, scheduled_at desc limit $4`,
    values: [campaign ?? null, listOf(state), next ?? null, limit ?? LIMIT],
  }
}

function lateness(late: Values[string], campaign: string | undefined) {
  return {
    text: `select count(*), percentile_cont(0.5) within group (order by late_ms) as median_ms, max(late_ms) as worst_ms from pawl.timers
           where state = 'completed' and scheduled_at > now() - $1::interval and ($2::uuid is null or campaign_id = $2::uuid)`,
    values: [late, campaign ?? null],
  }
}

/** `pawl queues` and its kin: the view of that name, the same rows as in psql. */
export function view(name: string): Run {
  return (terminal, values, words) =>
    connected(terminal, async db => {
      await show(terminal, values, async () => {
        const rows = await read(db.query, name, values, words)
        if (values.ids === true) return { machine: rows.map(row => row.run_id), people: rows.map(row => row.run_id).join('\n') }
        return { machine: { [name]: rows }, people: table(rows.map(row => pick(row, views[name]?.columns))) }
      })
      return exitCodes.ok
    })
}

async function read(query: Query, name: string, values: Values, words: string[]): Promise<Row[]> {
  const asked = views[name]?.ask(values, words)
  if (asked === undefined) throw new Error(`there is no view ${name}`)
  return query<Row>(asked.text, asked.values)
}

function pick(row: Row, columns: readonly string[] | undefined): Row {
  return columns === undefined ? row : Object.fromEntries(columns.flatMap(column => (Object.hasOwn(row, column) ? [[column, row[column]]] : [])))
}
