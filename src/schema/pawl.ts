import { sql } from 'drizzle-orm'
import { bigint, boolean, check, index, integer, interval, jsonb, pgSchema, primaryKey, text, timestamp, uuid } from 'drizzle-orm/pg-core'

/** The engine's own tables. Functions, views and grants stand in `drizzle/*.sql`. */
export const pawl = pgSchema('pawl')

const moment = (name: string) => timestamp(name, { withTimezone: true })

export const kinds = pawl.table('kinds', {
  kind: text().primaryKey(),
  queue: text().notNull(),
  changedFunction: text('changed_function').notNull(),
  quietTime: interval('quiet_time').notNull().default('1 minute'),
})

export const leases = pawl.table(
  'leases',
  {
    id: integer().primaryKey().generatedAlwaysAsIdentity(),
    state: text().notNull().default('running'),
    name: text().notNull(),
    host: text().notNull(),
    pid: integer().notNull(),
    version: text().notNull(),
    queues: text().array().notNull(),
    startedAt: moment('started_at').notNull().defaultNow(),
    seenAt: moment('seen_at').notNull().defaultNow(),
    stoppedAt: moment('stopped_at'),
  },
  () => [check('leases_state_known', sql`state in ('running', 'draining', 'stopped', 'lost')`)],
)

export const checkpoints = pawl.table(
  'checkpoints',
  {
    runId: text('run_id').primaryKey(),
    state: text({ enum: ['pending', 'running', 'completed', 'failed', 'cancelled'] })
      .notNull()
      .default('pending'),
    kind: text()
      .notNull()
      .references(() => kinds.kind),
    subject: text().notNull(),
    total: bigint({ mode: 'number' }),
    done: bigint({ mode: 'number' }).notNull().default(0),
    batch: bigint({ mode: 'number' }).notNull().default(0),
    epoch: bigint({ mode: 'number' }).notNull().default(0),
    owner: integer(),
    failures: integer().notNull().default(0),
    failuresMax: integer('failures_max').notNull().default(3),
    crashes: integer().notNull().default(0),
    crashedAtBatch: bigint('crashed_at_batch', { mode: 'number' }),
    waitsFor: text('waits_for'),
    priority: integer().notNull().default(0),
    jobId: uuid('job_id'),
    jobAttempt: integer('job_attempt'),
    requestedBy: text('requested_by').notNull().default(sql`session_user`),
    requestedAt: moment('requested_at').notNull().defaultNow(),
    startedAt: moment('started_at'),
    openedAt: moment('opened_at'),
    openedDone: bigint('opened_done', { mode: 'number' }),
    updatedAt: moment('updated_at').notNull().defaultNow(),
    finishedAt: moment('finished_at'),
    cancelRequestedAt: moment('cancel_requested_at'),
    cancelRequestedBy: text('cancel_requested_by'),
    cancelReason: text('cancel_reason'),
    error: text(),
    traceparent: text().default(sql`pawl.traceparent()`),
    lastOwner: integer('last_owner'),
  },
  table => [
    check('checkpoints_state_known', sql`state in ('pending', 'running', 'completed', 'failed', 'cancelled')`),
    check('checkpoints_no_timers', sql`kind <> 'timer'`),
    check('checkpoints_final_has_time', sql`(state in ('completed', 'failed', 'cancelled')) = (finished_at is not null)`),
    check('checkpoints_running_has_owner', sql`(state = 'running') = (owner is not null)`),
    index('checkpoints_unfinished').on(table.state, table.requestedAt).where(sql`state in ('pending', 'running')`),
    index('checkpoints_recent').on(table.requestedAt.desc()),
    index('checkpoints_waiting').on(table.waitsFor).where(sql`waits_for is not null`),
    index('checkpoints_ended').on(table.state, table.finishedAt.desc()).where(sql`state in ('completed', 'failed', 'cancelled')`),
  ],
)

export const lanes = pawl.table(
  'lanes',
  {
    runId: text('run_id')
      .notNull()
      .references(() => checkpoints.runId, { onDelete: 'cascade' }),
    lane: integer().notNull(),
    finished: boolean().notNull().default(false),
    epoch: bigint({ mode: 'number' }).notNull(),
    cursor: jsonb().notNull().default({}),
    done: bigint({ mode: 'number' }).notNull().default(0),
    batch: bigint({ mode: 'number' }).notNull().default(0),
    updatedAt: moment('updated_at').notNull().defaultNow(),
  },
  table => [primaryKey({ columns: [table.runId, table.lane] })],
)

export const pausedQueues = pawl.table('paused_queues', {
  queue: text().primaryKey(),
  reason: text(),
  pausedBy: text('paused_by').notNull().default(sql`session_user`),
  pausedAt: moment('paused_at').notNull().defaultNow(),
})

export const sweeps = pawl.table('sweeps', {
  schedule: text().primaryKey(),
  lastRunAt: moment('last_run_at').notNull(),
  durationMs: integer('duration_ms').notNull(),
})
