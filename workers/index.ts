import type { Loop } from '../src/loop.ts'
import type { Task } from '../src/task.ts'
import type { Worker } from '../src/worker.ts'
import { fireTimer } from './campaigns/fire.ts'
import { campaignWheel } from './campaigns/wheel.ts'
import { backfill } from './maintenance/backfill.ts'
import { archive } from './maintenance/archive.ts'
import { backup } from './maintenance/backup.ts'
import { workerChecks } from './maintenance/checks.ts'
import { cleanup } from './maintenance/cleanup.ts'
import { healthCheck } from './maintenance/health.ts'
import { sweep } from './maintenance/sweep.ts'
import { applyOverride } from './overrides/apply.ts'
import { loadTable } from './refresh/load.ts'
import { executeReport } from './reports/execute.ts'
import { reportWheel } from './reports/wheel.ts'

/** Everything Pawl does, one worker a queue. */
export const workers: readonly (Worker | Task)[] = [applyOverride, fireTimer, loadTable, executeReport, sweep, healthCheck, backup, archive, cleanup, backfill]

/** What turns by itself, each beside the queue it belongs to. */
export const loops: readonly Loop[] = [campaignWheel(), reportWheel, workerChecks]
