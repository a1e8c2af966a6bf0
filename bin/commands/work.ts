import { startDaemon } from '../../src/daemon.ts'
import { queuesMatching } from '../../src/queues.ts'
import { loops, workers } from '../../workers/index.ts'
import { type Command, exitCodes, usageError } from '../run.ts'
import { shutdownSignal } from '../signals.ts'
import { withDatabaseUrl } from './connect.ts'

/** The daemon itself: `pawl work`. */
export const work: Command = {
  usage: "work [--queues 'overrides.*']",
  summary: 'run a worker until SIGTERM or SIGINT',
  example: "pawl work --queues 'overrides.*'",
  options: { queues: { type: 'string', multiple: true } },
  async run(terminal, values) {
    const patterns = ((values.queues ?? []) as string[]).flatMap(text => text.split(',')).map(text => text.trim())
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
  },
}
