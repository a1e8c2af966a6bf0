import type { Worker } from '../src/worker.ts'
import { applyOverride } from './overrides/apply.ts'

/** Everything Pawl does, one worker a queue. */
export const workers: readonly Worker[] = [applyOverride]
