import type { JobWithMetadata, PgBoss } from 'pg-boss'
import type { Clock } from './clock.ts'
import type { Config } from './config.ts'
import type { Database } from './database.ts'
import { messageOf } from './errors.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import { settingsOf } from './queues.ts'
import { performing, type Task } from './task.ts'
import { type HandlerOptions, handle, type Settlement, type Worker } from './worker.ts'

/** The claim loops of this process: which queues it takes jobs from now. */
export type Claims = {
  /** Looks which queues are paused now, and opens or closes their loops. Never rejects. */
  refresh(): Promise<void>
  slots(): number
  queues(): string[]
  /** Claims nothing more and resolves when the last handler has returned. */
  stop(): Promise<void>
}

export type ClaimsOptions = Omit<HandlerOptions, 'lanes' | 'sliceMs' | 'leaseMs' | 'turnMs' | 'onPaused'> & {
  boss: PgBoss
  db: Database
  log: Log
  clock: Clock
  config: Config
  metrics: Metrics
  workers: readonly (Worker | Task)[]
}

/** A notification may be lost with a connection: look again this often. */
const REFRESH_EVERY_MS = 2_000

/** Opens `config.concurrency` claim loops a queue and keeps them in step with `pawl.paused_queues`. */
export async function startClaims(options: ClaimsOptions): Promise<Claims> {
  const { boss, db, log, clock, config, workers } = options
  const open = new Map<string, string[]>()
  const stopping = new AbortController()
  let turn: Promise<void> = Promise.resolve()

  const limits = { lanes: config.lanes, sliceMs: config.sliceMs, leaseMs: config.leaseMs, turnMs: config.turnMs, onPaused: () => void refresh() }
  const handlers = new Map(workers.map(worker => [worker.queue, handlerOf(worker, { ...options, ...limits })]))

  const openLoop = async (queue: string): Promise<string> => {
    const handler = handlers.get(queue)
    const pollSeconds = settingsOf(queue)?.pollSeconds ?? 1
    const workId: string = await boss.work(
      queue,
      {
        batchSize: 1,
        includeMetadata: true,
        perJobResults: true,
        pollingIntervalSeconds: pollSeconds,
        // With LISTEN up pg-boss would poll every 30 s, but retries and matured jobs notify nobody.
        notifyPollingIntervalSeconds: pollSeconds,
        heartbeatRefreshSeconds: 2,
      },
      async ([job]: JobWithMetadata<object>[]) => {
        if (job === undefined || handler === undefined) return []
        const settlement = await handler(job)
        // Otherwise the loop sleeps out its interval before it looks for the next job (notifications coalesce).
        setImmediate(() => boss.notifyWorker(workId))
        return [{ id: job.id, ...settlement }]
      },
    )
    return workId
  }

  const refreshNow = async () => {
    if (stopping.signal.aborted) return
    const paused = new Set((await db.query<{ queue: string }>('select queue from pawl.paused_queues')).map(row => row.queue))
    for (const worker of workers) {
      const { queue } = worker
      if (paused.has(queue) && open.has(queue)) {
        open.delete(queue)
        await boss.offWork(queue, { wait: false })
        log.info({ queue }, 'queue paused')
      } else if (!paused.has(queue) && !open.has(queue)) {
        const loops: string[] = []
        open.set(queue, loops)
        for (let slot = 0; slot < slotsOf(worker, config); slot += 1) loops.push(await openLoop(queue))
        log.info({ queue, slots: loops.length }, 'queue open')
      }
    }
  }
  const refresh = () => {
    turn = turn.then(refreshNow).catch(error => log.warn({ reason: messageOf(error) }, 'could not look for paused queues'))
    return turn
  }

  await refreshNow()
  const looping = (async () => {
    while (!stopping.signal.aborted) {
      await clock.sleep(REFRESH_EVERY_MS, stopping.signal)
      await refresh()
    }
  })()

  return {
    refresh,
    slots: () => [...open.values()].reduce((sum, loops) => sum + loops.length, 0),
    queues: () => [...open.keys()],
    async stop() {
      stopping.abort()
      await looping
      const names = [...open.keys()]
      open.clear()
      // offWork resolves when the handlers have returned and their jobs are settled.
      await Promise.all(names.map(queue => boss.offWork(queue, { wait: true })))
    },
  }
}

/** Tasks are short and few: one loop, which looks again at once when it has done one. */
function slotsOf(worker: Worker | Task, config: Config): number {
  return settingsOf(worker.queue)?.atOnce ?? ('perform' in worker ? 1 : config.concurrency)
}

/** A run is opened and walked; a task is complete in itself. */
function handlerOf(worker: Worker | Task, options: HandlerOptions): (job: JobWithMetadata<object>) => Promise<Settlement> {
  if ('perform' in worker) {
    const perform = performing(worker, options)
    return job => perform(job.data, job.id, job.signal)
  }
  const work = handle(worker, options)
  // What is no run id is refused there, with a word to whoever enqueued it.
  return job => {
    // Both are the database's clock: how long the job lay ready before it was taken.
    const waitedMs = job.startedOn.getTime() - job.startAfter.getTime()
    return work({ runId: (job.data as { run_id?: unknown } | null)?.run_id, jobId: job.id, jobAttempt: job.retryCount, waitedMs }, job.signal)
  }
}
