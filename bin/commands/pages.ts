import { systemClock } from '../../src/clock.ts'
import { openDatabase } from '../../src/database.ts'
import { servePages } from '../../src/pages/server.ts'
import { exitCodes } from '../terminal.ts'
import { shutdownSignal } from '../signals.ts'
import type { Run } from '../spec.ts'
import { withDatabaseUrl } from './connect.ts'

const PORT = 9466

/** `pawl pages`: the read-only pages by themselves, without being a worker. An observer's rights are enough. */
export const pages: Run = async (terminal, values) => {
  const stop = shutdownSignal()
  const config = await withDatabaseUrl(terminal.config)
  // One for the page, which is read once for all lookers, and one for whoever looks at the queues.
  const db = openDatabase(config, terminal.log, { name: 'pawl pages', max: 2 })
  try {
    const port = values.port === undefined ? (config.pages.port ?? PORT) : Number(values.port)
    const served = await servePages({ config, port, db, log: terminal.log, clock: systemClock })
    terminal.out(terminal.json ? JSON.stringify({ url: served.url }) : `${served.url}  (Ctrl-C ends it)`)
    await stop
    await served.close()
  } finally {
    await db.close()
  }
  return exitCodes.ok
}
