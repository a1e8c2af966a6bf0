import type { Id, JsonObject, Time } from './arguments.ts'

/** Apply settings to every AD-synced, active recipient of a category. */
export type OverrideRequest = {
  categoryId: Id
  /** Who asks. */
  userId: Id
  /** What to apply; left out or null: the category's own settings, as they are in this transaction. */
  settings?: JsonObject | null | undefined
  /** 1 to 1000 rows to a transaction; 100 when left out. */
  batchSize?: number | undefined
  /** For the audit row. */
  clientIp?: string | null | undefined
  /** For the audit row. */
  userAgent?: string | null | undefined
  /** Asked again with the same key, it gives the same operation and enqueues nothing. */
  idempotencyKey?: string | null | undefined
}

/** Put back what each row held before an operation, where no one changed it since. */
export type RevertRequest = { operationId: string; userId: Id }

/** A campaign with the timers that start and close it. */
export type CampaignRequest = {
  durationHours: number
  /** Now, when left out. */
  startAt?: Time | undefined
  autoClose?: boolean | undefined
  rewardsEnabled?: boolean | undefined
  metadata?: JsonObject | undefined
  /** Asked again with the same id, it gives the same campaign. */
  id?: string | undefined
}

export type TimerType = 'START_CAMPAIGN' | 'CLOSE_CAMPAIGN' | 'EXPIRE_CAMPAIGN' | 'REWARD_REMINDER'

/** One more timer of a campaign. */
export type TimerRequest = { campaignId: string; timerType: TimerType; at: Time; payload?: JsonObject | undefined }

/** Refresh a table now. */
export type RefreshRequest = {
  /** `schema.table`, or a table's name alone. */
  name: string
  /** What is refreshed before it: what is stale above it (when left out), all, or nothing. */
  upstream?: 'stale' | 'all' | 'none' | undefined
  /** Whether what is made from it follows. */
  downstream?: boolean | undefined
}

export type OutputFormat = 'csv' | 'json' | 'html' | 'excel' | 'xlsx' | 'pdf'

/** Execute a report for a user of reporting.users. */
export type ReportRequest = {
  reportId: string
  executedBy: string
  /** csv, when left out. */
  outputFormat?: OutputFormat | undefined
  /** They win over the report's own. */
  parameters?: JsonObject | undefined
}

/** Any job on any queue. */
export type JobRequest = {
  queue: string
  data: JsonObject
  /** Higher is taken first; 0 when left out. */
  priority?: number | undefined
  startAfter?: Time | undefined
  /** What it keeps out is for the queue's policy to say. */
  singletonKey?: string | undefined
}
