import { systemClock } from '../../src/clock.ts'
import type { Query } from '../../src/database.ts'
import { type Seeded, seedCategory } from '../support/overrides.ts'
import { fromQuery, registerTable } from '../support/refresh.ts'
import { addPeople, addReport, addSales } from '../support/reports.ts'

/** How many of each a minute: a load that two cores carry with most of their time to spare. */
const A_MINUTE = { overrides: 60, campaigns: 240, refreshes: 12, reports: 20 }
const CATEGORIES = 10
const RECIPIENTS = 500

/** Asked of the database until `stop` resolves; how many of each. */
export type Load = { asked: Record<string, number>; stop(): Promise<void> }

/** Makes the host's rows, and asks for runs of four domains at a steady rate, in plain SQL as any producer does. The fifth, maintenance, runs by the clock. */
export async function startLoad(query: Query): Promise<Load> {
  const categories: Seeded[] = []
  for (let place = 0; place < CATEGORIES; place += 1) categories.push(await seedCategory(query, RECIPIENTS, { name: `Category ${place}` }))
  const people = await addPeople(query)
  await addSales(query, 2_000)
  const report = await addReport(query, people, { name: 'Sales', structure: { source: 'public.sales', columns: ['id', 'region', 'amount', 'note'] } })
  const rows = `select i as id, 'row ' || i as name, i * extract(minute from now())::integer % 100 as amount from generate_series(1, 2000) i`
  for (const table of ['soak_a', 'soak_b']) await registerTable(query, table, 'id bigint primary key, name text, amount integer', fromQuery(rows))

  const stopping = new AbortController()
  const asked: Record<string, number> = {}
  const steadily = async (what: keyof typeof A_MINUTE, ask: (time: number) => Promise<unknown>) => {
    const everyMs = 60_000 / A_MINUTE[what]
    for (let time = 0; !stopping.signal.aborted; time += 1) {
      const begun = systemClock.elapsed()
      await ask(time)
      asked[what] = time + 1
      await systemClock.sleep(Math.max(0, everyMs - (systemClock.elapsed() - begun)), stopping.signal)
    }
  }
  const asking = Promise.all([
    steadily('overrides', time => {
      const category = categories[time % CATEGORIES]
      return query(`select pawl.request_override($1, $2, jsonb_build_object('channel', $3::text), 100)`, [
        category?.categoryId,
        category?.userId,
        `channel ${time % 7}`,
      ])
    }),
    steadily('campaigns', () => query(`select pawl.create_campaign(1, now() + interval '2 seconds')`)),
    steadily('refreshes', time => query('select pawl.refresh_table($1)', [`sqp.soak_${time % 2 === 0 ? 'a' : 'b'}`])),
    steadily('reports', () => query('select pawl.run_report($1, $2, $3)', [report, people.admin, 'csv'])),
  ])
  return {
    asked,
    async stop() {
      stopping.abort()
      await asking
    },
  }
}
