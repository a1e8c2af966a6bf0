import { readFileSync } from 'node:fs'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { openLog } from '../../src/log.ts'
import { takeBackup } from '../../workers/maintenance/backups/take.ts'

// A process of its own that takes one backup by its environment, and says how much memory that took at most.
const context = { config: readConfig(), log: openLog({ level: 'silent' }), clock: systemClock, signal: new AbortController().signal, told: () => {} }
const { stored } = await takeBackup(context, { kind: 'manual', scope: 'full' })
// Not process.resourceUsage(): its peak is that of the process before it was this one, too.
const peak = Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024
process.stdout.write(JSON.stringify({ bytes: stored.manifest.files.dump.bytes, megabytes: Math.round(peak) }))
