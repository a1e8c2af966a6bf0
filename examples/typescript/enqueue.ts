// A producer in TypeScript, after examples/prepare.sql and "npm run build:client" (Node 24 runs it as it is):
//   cd examples/typescript && npm install
//   DATABASE_URL=postgres://example_shop:shop@localhost:5432/pawl WATCH_URL=postgres://example_watch:watch@localhost:5432/pawl node enqueue.ts
import { connectPawl, PawlRequestError, PawlTimeout } from '@pawl/client'
import pg from 'pg'

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL })
const client = await pool.connect()
try {
  // The order and everything it asks of Pawl commit together: requests are made on the client that holds the transaction.
  await client.query('begin')
  const pawl = connectPawl(client)
  await client.query('insert into public.example_orders (customer) values ($1)', ['typescript'])
  const operationId = await pawl.requestOverride({ categoryId: 9001, userId: 9001, settings: { channel: 'push' }, batchSize: 100 })
  const campaignId = await pawl.createCampaign({ durationHours: 48, metadata: { from: 'typescript' } })
  const timerId = await pawl.scheduleTimer({ campaignId, timerType: 'EXPIRE_CAMPAIGN', at: new Date(Date.now() + 72 * 3_600_000) })
  const executionId = await pawl.runReport({
    reportId: '00000000-0000-4000-8000-000000009004',
    executedBy: '00000000-0000-4000-8000-000000009002',
    outputFormat: 'html',
  })
  await client.query('commit')
  console.log(JSON.stringify({ operationId, campaignId, timerId, executionId }))

  // Waiting is reading, which this login may not: another one does. It waits on a pool, and never in a transaction.
  if (process.env.WATCH_URL !== undefined) await watch(process.env.WATCH_URL, [operationId, executionId])
} catch (error) {
  await client.query('rollback').catch(() => {})
  if (!(error instanceof PawlRequestError || error instanceof PawlTimeout)) throw error
  console.error(error instanceof PawlRequestError ? `${error.message} (${error.code})\n  next: ${error.hint ?? 'see the message'}` : error.message)
  process.exitCode = 1
} finally {
  client.release()
  await pool.end()
}

async function watch(connectionString: string, runIds: string[]): Promise<void> {
  const reader = new pg.Pool({ connectionString })
  // A connection that is lost while it idles is no reason to end: the wait goes on with another.
  reader.on('error', () => {})
  try {
    for (const runId of runIds) {
      const run = await connectPawl(reader).wait(runId, { timeoutMs: 60_000 })
      console.log(JSON.stringify({ runId, state: run.state, done: run.done, error: run.error }))
    }
  } finally {
    await reader.end()
  }
}
