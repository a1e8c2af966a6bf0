export type { Id, JsonObject, Time } from './arguments.ts'
export { connectPawl, type Pawl, refreshRunId } from './connect.ts'
export { PawlRequestError } from './errors.ts'
export { fromDrizzle, type Queryable } from './queryable.ts'
export type {
  CampaignRequest,
  JobRequest,
  OutputFormat,
  OverrideRequest,
  RefreshRequest,
  ReportRequest,
  RevertRequest,
  TimerRequest,
  TimerType,
} from './requests.ts'
export { type EndedRun, hasEnded, type Run, type RunKind, type RunState } from './run.ts'
export { PawlTimeout, type WaitOptions } from './wait.ts'
