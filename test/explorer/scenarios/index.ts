import type { Scenario } from '../scenario.ts'
import { graph } from './graph.ts'
import { group } from './group.ts'
import { handlers } from './handlers.ts'
import { line } from './line.ts'
import { overrides } from './overrides.ts'
import { refresh } from './refresh.ts'
import { requests } from './requests.ts'
import { steering } from './steering.ts'
import { timers } from './timers.ts'

export const scenarios: readonly Scenario[] = [overrides, steering, line, requests, timers, handlers, refresh, graph, group]
