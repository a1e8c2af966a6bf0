import { bigint, boolean, inet, integer, json, text, time, uuid } from './arguments.ts'
import { call, certain, type Queryable } from './queryable.ts'
import type { CampaignRequest, JobRequest, OverrideRequest, RefreshRequest, ReportRequest, RevertRequest, TimerRequest } from './requests.ts'
import { type EndedRun, readRun, type Run } from './run.ts'
import { waitFor, type WaitOptions } from './wait.ts'

/** What Pawl does for other services. Requests take part in the transaction of the connection they are made on. */
export type Pawl = {
  /** Needs pawl_producer. The operation's id, which is also its run's. */
  requestOverride(request: OverrideRequest): Promise<string>
  /** Needs pawl_producer. The id of the operation that reverts. */
  revertOverride(request: RevertRequest): Promise<string>
  /** Needs pawl_producer. The campaign's id; its runs are its timers. */
  createCampaign(request: CampaignRequest): Promise<string>
  /** Needs pawl_producer. The timer's id, which is also its run's. */
  scheduleTimer(request: TimerRequest): Promise<string>
  /** Needs pawl_producer or pawl_operator. The number of the refresh, as text; `refreshRunId` makes a run's id of it. */
  refreshTable(request: RefreshRequest): Promise<string>
  /** Needs pawl_producer or pawl_operator. The execution's id, which is also its run's. */
  runReport(request: ReportRequest): Promise<string>
  /** Needs pawl_producer. The job's id; null when one with the same singleton key stands in the way. */
  enqueue(request: JobRequest): Promise<string | null>
  /** Needs pawl_observer or pawl_operator. Undefined when there is no such run, or not yet: its transaction must have committed. */
  run(runId: string): Promise<Run | undefined>
  /** Needs pawl_observer or pawl_operator. The run once it has ended, be it well or badly. Throws PawlTimeout, or the signal's reason. */
  wait(runId: string, options: WaitOptions): Promise<EndedRun>
  /** Needs pawl_operator. At its next batch edge; what was applied stays. False when it had ended already. */
  cancel(runId: string, reason?: string): Promise<boolean>
  /** Needs pawl_operator. A failed or cancelled run goes on at its cursor. False when there is nothing to retry. */
  retry(runId: string): Promise<boolean>
  /** Needs pawl_observer or pawl_operator. Why the run is where it is, in one sentence, and what to do. */
  why(runId: string): Promise<string>
}

/** Pawl through a pool, or through the very client that holds your transaction. Costs nothing: make one per transaction. */
export function connectPawl(queryable: Queryable): Pawl {
  return {
    async requestOverride(request) {
      const parameters = {
        category_id: bigint('categoryId', request.categoryId),
        user_id: bigint('userId', request.userId),
        settings: json('settings', request.settings),
        batch_size: integer(request.batchSize),
        client_ip: inet(request.clientIp),
        user_agent: text(request.userAgent),
        idempotency_key: text(request.idempotencyKey),
      }
      return certain(await call(queryable, 'enqueue', 'request_override', parameters))
    },
    async revertOverride(request) {
      const parameters = { operation_id: text(request.operationId), user_id: bigint('userId', request.userId) }
      return certain(await call(queryable, 'enqueue', 'revert_override', parameters))
    },
    async createCampaign(request) {
      const parameters = {
        duration_hours: integer(request.durationHours),
        start_at: time('startAt', request.startAt),
        auto_close: boolean(request.autoClose),
        rewards_enabled: boolean(request.rewardsEnabled),
        metadata: json('metadata', request.metadata),
        id: uuid(request.id),
      }
      return certain(await call(queryable, 'enqueue', 'create_campaign', parameters))
    },
    async scheduleTimer(request) {
      const parameters = {
        campaign_id: uuid(request.campaignId),
        timer_type: text(request.timerType),
        at: time('at', request.at),
        payload: json('payload', request.payload),
      }
      return certain(await call(queryable, 'enqueue', 'schedule_timer', parameters))
    },
    async refreshTable(request) {
      const parameters = { name: text(request.name), upstream: text(request.upstream), downstream: boolean(request.downstream) }
      return certain(await call(queryable, 'enqueue', 'refresh_table', parameters))
    },
    async runReport(request) {
      const parameters = {
        report_id: uuid(request.reportId),
        executed_by: uuid(request.executedBy),
        output_format: text(request.outputFormat),
        parameters: json('parameters', request.parameters),
      }
      return certain(await call(queryable, 'enqueue', 'run_report', parameters))
    },
    async enqueue(request) {
      const parameters = {
        queue: text(request.queue),
        data: json('data', request.data),
        priority: integer(request.priority),
        start_after: time('startAfter', request.startAfter),
        singleton_key: text(request.singletonKey),
      }
      return call(queryable, 'enqueue', 'enqueue', parameters)
    },
    async run(runId) {
      return (await readRun(queryable, runId))?.run
    },
    wait: (runId, options) => waitFor(queryable, runId, options),
    async cancel(runId, reason) {
      return (await call(queryable, 'steer', 'cancel', { run_id: text(runId), reason: text(reason) })) === 'true'
    },
    async retry(runId) {
      return (await call(queryable, 'steer', 'retry', { run_id: text(runId) })) === 'true'
    },
    async why(runId) {
      return certain(await call(queryable, 'read', 'why', { run_id: text(runId) }))
    },
  }
}

/** The id of the run that refreshes one table (`schema.table`) in the refresh that `refreshTable` gave the number of. */
export function refreshRunId(refresh: string, table: string): string {
  return `refresh:${refresh}:${table}`
}
