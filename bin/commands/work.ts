import { startDaemon } from '../../src/daemon.ts'
import { queuesMatching } from '../../src/queues.ts'
import { loops, workers } from '../../workers/index.ts'
import { exitCodes, usageError } from '../terminal.ts'
import { shutdownSignal } from '../signals.ts'
import type { Run } from '../spec.ts'
import { withDatabaseUrl } from './connect.ts'

/** The daemon itself: `pawl work`. */
export const work: Run = async (terminal, { queues }) => {
  const patterns = (queues ?? []) as string[]
  const names = queuesMatching(patterns)
  if (names.length === 0) throw usageError(`no queue matches ${patterns.join(', ')}`, `the queues are ${queuesMatching([]).join(', ')}`)
  const stop = shutdownSignal()
  const daemon = await startDaemon({
    config: await withDatabaseUrl(terminal.config),
    log: terminal.log,
    workers: workers.filter(worker => names.includes(worker.queue)),
    loops: loops.filter(loop => names.includes(loop.queue)),
  })
  await daemon.drain(await stop)
  return exitCodes.ok
}
