/**
 * Every queue, with what pg-boss needs to know of it. A queue's name is its file: `overrides.apply` is `workers/overrides/apply.ts`.
 * `pawl migrate up` creates them and brings their settings up to date; pg-boss's own createQueue never changes an existing one.
 */
export type QueueSettings = {
  name: string
  /** Seconds until pg-boss takes a job from a worker whose heartbeats stopped; ours is the faster rescue, this one the second net. */
  heartbeatSeconds: number
  /** Seconds a job may be active. Longer runs go on in a fresh job before that (`PAWL_TURN_SECONDS`). */
  expireInSeconds: number
  /** Deliveries, not failures: crashes and hand-overs spend them too. The run counts its own failures (`pawl.checkpoints.failures`). */
  retryLimit: number
  retryDelay: number
  retryDelayMax: number
  retentionSeconds: number
  deleteAfterSeconds: number
  /** Jobs of it that one process works on at once; undefined: PAWL_CONCURRENCY for runs, one for tasks. */
  atOnce?: number
}

const DAY_SECONDS = 86_400

const delivery = {
  heartbeatSeconds: 10,
  expireInSeconds: DAY_SECONDS,
  retryLimit: 1000,
  retryDelay: 2,
  retryDelayMax: 300,
  retentionSeconds: 30 * DAY_SECONDS,
  deleteAfterSeconds: 7 * DAY_SECONDS,
}

/** A task's own retries are pg-boss's: a minute apart at most, then the dead letter queue. */
const task = { ...delivery, expireInSeconds: 900, retryLimit: 5, retryDelayMax: 60 }

/** What comes a few times a day, and does its work with one connection of its own. */
const rare = { atOnce: 1 }

export const queues: readonly QueueSettings[] = [
  { name: 'overrides.apply', ...delivery },
  // Retries of timers whose first attempt failed; the wheel fires all others without a job.
  { name: 'campaigns.fire', ...task, retentionSeconds: 400 * DAY_SECONDS },
  { name: 'refresh.load', ...delivery },
  { name: 'reports.execute', ...delivery },
  { name: 'maintenance.sweep', ...task, retryLimit: 2 },
  { name: 'maintenance.health', ...task, ...rare, retryLimit: 2 },
  { name: 'maintenance.backup', ...delivery, ...rare },
  { name: 'maintenance.cleanup', ...task, ...rare, retryLimit: 2 },
  { name: 'maintenance.archive', ...delivery, ...rare },
  { name: 'maintenance.backfill', ...delivery, ...rare },
]

/** What Pawl tells others of: queues that it fills and anyone may work on. Unread jobs go after a week. */
export const eventQueues = ['campaign.started', 'campaign.closed', 'campaign.reward_claim', 'campaign.reward_reminder', 'campaign.expired'] as const

export const eventRetentionSeconds = 7 * DAY_SECONDS

/** The settings of a queue that the list has. */
export function settingsOf(queue: string): QueueSettings | undefined {
  return queues.find(({ name }) => name === queue)
}

/** Where jobs of `queue` end whose run failed for good. */
export function deadLetterOf(queue: string): string {
  return `${queue}.dead`
}

/** The queues that `patterns` such as `overrides.*` name; all of them for none. */
export function queuesMatching(patterns: readonly string[]): string[] {
  const names = queues.map(queue => queue.name)
  if (patterns.length === 0) return names
  const matchers = patterns.map(
    pattern =>
      new RegExp(
        `^${pattern
          .split('*')
          .map(part => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
          .join('.*')}$`,
      ),
  )
  return names.filter(name => matchers.some(matcher => matcher.test(name)))
}
