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
  /** Looks which queues are paused and which have jobs now, and opens, closes or wakes their loops. Never rejects. */
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

/** A claim loop of pg-boss; one that is not busy sleeps until it is woken. */
type ClaimLoop = { workId: string; busy: boolean }

/** Retries and jobs whose time has come notify nobody, and a notification may be lost with its connection: look this often. */
const LOOK_EVERY_MS = 1_000
/** pg-boss's own polling would cost a statement a second and loop, however idle; one look of ours serves all loops of all queues. */
const OWN_POLL_SECONDS = 60

/** Opens `config.concurrency` claim loops a queue, wakes as many of them as there are jobs, and keeps them in step with `pawl.paused_queues`. */
export async function startClaims(options: ClaimsOptions): Promise<Claims> {
  const { boss, db, log, clock, config, workers } = options
  const open = new Map<string, ClaimLoop[]>()
  const stopping = new AbortController()
  let turn: Promise<void> = Promise.resolve()

  const limits = { lanes: config.lanes, sliceMs: config.sliceMs, leaseMs: config.leaseMs, turnMs: config.turnMs, onPaused: () => void refresh() }
  const handlers = new Map(workers.map(worker => [worker.queue, handlerOf(worker, { ...options, ...limits })]))

  const openLoop = async (queue: string): Promise<ClaimLoop> => {
    const handler = handlers.get(queue)
    const loop: ClaimLoop = { workId: '', busy: false }
    loop.workId = await boss.work(
      queue,
      {
        batchSize: 1,
        includeMetadata: true,
        perJobResults: true,
        pollingIntervalSeconds: OWN_POLL_SECONDS,
        notifyPollingIntervalSeconds: OWN_POLL_SECONDS,
        heartbeatRefreshSeconds: 2,
      },
      async ([job]: JobWithMetadata<object>[]) => {
        if (job === undefined || handler === undefined) return []
        loop.busy = true
        try {
          return [{ id: job.id, ...(await handler(job)) }]
        } finally {
          loop.busy = false
          // Otherwise the loop sleeps before it looks for the next job (notifications coalesce).
          setImmediate(() => boss.notifyWorker(loop.workId))
        }
      },
    )
    return loop
  }
  const wake = (loops: readonly ClaimLoop[], ready: number) => {
    for (const { workId } of loops.filter(({ busy }) => !busy).slice(0, ready)) boss.notifyWorker(workId)
  }

  const refreshNow = async () => {
    if (stopping.signal.aborted) return
    const queues = workers.map(({ queue }) => queue)
    const found = await db.query<{ queue: string; paused: boolean; ready: number }>('select * from pawl.claimable($1, $2)', [queues, config.concurrency])
    const claimable = new Map(found.map(row => [row.queue, row]))
    for (const worker of workers) {
      const { queue } = worker
      const { paused = false, ready = 0 } = claimable.get(queue) ?? {}
      const loops = open.get(queue)
      if (paused && loops !== undefined) {
        open.delete(queue)
        await boss.offWork(queue, { wait: false })
        log.info({ queue }, 'queue paused')
      } else if (!paused && loops === undefined) {
        const opened: ClaimLoop[] = []
        open.set(queue, opened)
        for (let slot = 0; slot < slotsOf(worker, config); slot += 1) opened.push(await openLoop(queue))
        log.info({ queue, slots: opened.length }, 'queue open')
      } else if (loops !== undefined) {
        wake(loops, ready)
      }
    }
  }
  const refresh = () => {
    turn = turn.then(refreshNow).catch(error => log.warn({ reason: messageOf(error) }, 'could not look for jobs and paused queues'))
    return turn
  }

  await refreshNow()
  const looping = (async () => {
    while (!stopping.signal.aborted) {
      await clock.sleep(LOOK_EVERY_MS, stopping.signal)
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
