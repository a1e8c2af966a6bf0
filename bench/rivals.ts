import { Logger, run, runMigrations } from 'graphile-worker'
import { PgBoss } from 'pg-boss'
import { openBoss } from '../src/boss.ts'
import { systemClock } from '../src/clock.ts'
import type { Config } from '../src/config.ts'
import type { Database } from '../src/database.ts'
import { openLog } from '../src/log.ts'

/** Someone who fires timers: `enqueue` is told of them beforehand, `start` begins and `stop` ends the work. */
export type Contender = {
  name: string
  enqueue?(timers: readonly { id: string; scheduled_at: Date }[]): Promise<void>
  start(): Promise<{ stop(): Promise<void> }>
}

const PAGE = 5_000

/** pg-boss with a job per timer, in the configuration that was quickest at it: batches of 50 on ten loops, burst when full. */
export function pgBoss(config: Config, db: Database): Contender {
  const boss = openBoss(config, openLog({ level: 'error', destination: 2 }), { supervise: false, name: 'rival' })
  const queue = 'bench.timers'
  return {
    name: 'pg_boss',
    async enqueue(timers) {
      await boss.start()
      await boss.createQueue(queue)
      for (let at = 0; at < timers.length; at += PAGE) {
        await boss.insert(
          queue,
          timers.slice(at, at + PAGE).map(timer => ({ data: { timer_id: timer.id }, startAfter: timer.scheduled_at })),
        )
      }
    },
    async start() {
      for (let loop = 0; loop < 10; loop += 1) {
        await boss.work<{ timer_id: string }>(queue, { batchSize: 50, pollingIntervalSeconds: 0.5, burstWhenBatchFull: true }, async jobs => {
          for (const job of jobs) await db.query('select pawl.fire_timer($1)', [job.data.timer_id])
        })
      }
      return { stop: () => boss.stop({ graceful: false, close: true }) }
    },
  }
}

/** graphile-worker with a job per timer, tuned as its documentation says for many small jobs. */
export function graphile(url: string, db: Database): Contender {
  return {
    name: 'graphile',
    async enqueue(timers) {
      await runMigrations({ connectionString: url, logger: new Logger(() => () => {}) })
      for (let at = 0; at < timers.length; at += PAGE) {
        await db.query(
          `select from graphile_worker.add_jobs(array(
             select json_populate_record(null::graphile_worker.job_spec, json_build_object('identifier', 'fire', 'payload', json_build_object('timer_id', t.id), 'run_at', t.scheduled_at))
             from public.campaign_timers t where t.id = any ($1)))`,
          [timers.slice(at, at + PAGE).map(timer => timer.id)],
        )
      }
    },
    async start() {
      const runner = await run({
        connectionString: url,
        concurrency: 10,
        pollInterval: 100,
        noHandleSignals: true,
        logger: new Logger(() => () => {}),
        taskList: {
          async fire(payload) {
            await db.query('select pawl.fire_timer($1)', [(payload as { timer_id: string }).timer_id])
          },
        },
        preset: { worker: { localQueue: { size: 500 } } },
      })
      return { stop: () => runner.stop() }
    },
  }
}

/** pg-boss's own way, at its shortest interval: from the end of a job to the start of the one that depends on it. */
export async function flowEdges(config: Config, levels: number): Promise<number[]> {
  const boss = new PgBoss({ connectionString: config.directUrl ?? '', flowIntervalSeconds: 1, useListenNotify: true })
  boss.on('error', () => {})
  await boss.start()
  try {
    await boss.createQueue('bench.flow', { notify: true })
    const times: { begun: number; ended: number }[] = []
    const done = Promise.withResolvers<void>()
    await boss.work('bench.flow', { batchSize: 1, pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 1 }, async () => {
      const begun = systemClock.elapsed()
      times.push({ begun, ended: systemClock.elapsed() })
      if (times.length === levels + 1) done.resolve()
    })
    await boss.flow(
      Array.from({ length: levels + 1 }, (_, level) => ({ ref: `n${level}`, name: 'bench.flow', ...(level === 0 ? {} : { dependsOn: [`n${level - 1}`] }) })),
    )
    await done.promise
    return times.slice(1).map(({ begun }, place) => begun - (times[place]?.ended ?? begun))
  } finally {
    await boss.stop({ graceful: false })
  }
}
