import { classify, codeOf } from '../../src/errors.ts'
import { type HandlerOptions, handle, type Settlement, type Worker } from '../../src/worker.ts'
import type { Delivery } from '../../src/checkpoint.ts'
import { claim, settleJob } from '../support/engine.ts'
import { silent } from './lane.ts'
import type { Actor, World } from './world.ts'

const LEASE_MS = 10_000

/** Lets a worker loose: it claims jobs of its queues as pg-boss does, and works on them with the product's own `handle`. */
export async function hire(world: World, name: string, jobs: readonly Worker[], options: { lanes: number }): Promise<Actor> {
  const queues = jobs.map(job => job.queue)
  const lease = await world.lane.register(name, queues)
  const drain = new AbortController()
  const held = new Set<string>()
  let isBeating = false
  const worker = {
    lease: lease as number | undefined,
    held,
    drain,
    queues,
    beat() {
      const actor = world.actors.get(name)
      if (isBeating || actor === undefined || drain.signal.aborted) return
      isBeating = true
      void beatOnce(world, actor)
        .catch((error: unknown) => void (actor.state === 'dead' || world.found.push(`${name} could not say that it lives: ${String(error)}`)))
        .finally(() => {
          isBeating = false
        })
    },
  }
  const actor = world.spawn(name, self => workOff(world, self, jobs, options.lanes), worker)
  worker.beat()
  return actor
}

async function workOff(world: World, actor: Actor, jobs: readonly Worker[], lanes: number): Promise<void> {
  const { worker, db, clock, name } = actor
  if (worker === undefined) throw new Error(`${name} is no worker`)
  const options: HandlerOptions = {
    config: world.lane.config,
    db,
    log: silent,
    clock,
    metrics: unmeasured,
    drain: worker.drain.signal,
    lanes,
    // One batch a call: so that its end is a boundary where others may come between.
    sliceMs: 0,
    leaseMs: LEASE_MS,
    turnMs: 86_400_000,
    lease: () => worker.lease,
    held: worker.held,
    onPaused: () => {},
  }
  const handlers = jobs.map(job => ({ queue: job.queue, work: handle(job, options) }))
  while (!world.isOver && !worker.drain.signal.aborted) {
    const since = world.scheduler.news()
    const taken = await take(world, actor, handlers)
    if (taken === undefined) await world.scheduler.idle(name, since, worker.drain.signal)
    else await settleJob(db.query, taken.queue, taken.delivery, taken.settlement).catch(unlessTransient)
  }
  if (world.isOver) return
  // As `stop` of a presence: the row first, then the lock goes with the connection.
  await db.query(`update pawl.leases set state = 'stopped', stopped_at = now() where id = $1`, [worker.lease]).catch(unlessTransient)
  await world.scheduler.act(name, 'the connections close', () => world.lane.bury(name))
}

type Taken = { queue: string; delivery: Delivery; settlement: Settlement }
type Handler = { queue: string; work: ReturnType<typeof handle> }

async function take(world: World, { db }: Actor, handlers: readonly Handler[]): Promise<Taken | undefined> {
  for (const { queue, work } of handlers) {
    try {
      // What claims.ts learns from a notification.
      if (world.mayPause && (await db.query('select from pawl.paused_queues where queue = $1', [queue])).length > 0) continue
      const delivery = await claim(db.query, queue)
      if (delivery === undefined) continue
      const settlement = await work(delivery, new AbortController().signal).catch((error: unknown): Settlement => {
        unlessTransient(error)
        return { status: 'failed', output: {} }
      })
      return { queue, delivery, settlement }
    } catch (error) {
      // pg-boss tries again at its next look.
      unlessTransient(error)
    }
  }
  return undefined
}

/** As `src/presence.ts` does twice a second, and what the daemon does with those it rescued. */
async function beatOnce(world: World, { worker, db, name }: Actor): Promise<void> {
  if (worker === undefined) return
  try {
    const rescued = await db.query<{ queue: string; job_id: string | null }>(`select * from pawl.beat($1, $2, $3 * interval '1 millisecond', true)`, [
      worker.lease,
      [...worker.held],
      LEASE_MS,
    ])
    for (const { queue, job_id: job } of rescued) {
      await db.query(`update pgboss.job set state = 'completed', output = '{"outcome": "rescued"}' where name = $1 and id = $2 and state = 'active'`, [
        queue,
        job,
      ])
    }
  } catch (error) {
    if (codeOf(error) === 'PW002') {
      worker.lease = undefined
      worker.lease = await world.scheduler.act(name, 'a new lease', () => world.lane.register(name, worker.queues))
    } else unlessTransient(error)
  }
}

function unlessTransient(error: unknown): void {
  if (classify(error) !== 'transient') throw error
}

const unmeasured: HandlerOptions['metrics'] = {
  batches: () => {},
  run: () => {},
  waited: () => {},
  rescue: () => {},
  timers: () => {},
  text: async () => '',
  contentType: 'text/plain',
}
