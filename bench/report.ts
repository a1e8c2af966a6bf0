import { readdirSync, readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { systemClock } from '../src/clock.ts'

/** Progress for people; standard output is for the result. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

/** Milliseconds that a piece of work takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = systemClock.elapsed()
  await work()
  return systemClock.elapsed() - begun
}

export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b)
  const middle = sorted.length / 2
  return sorted.length % 2 === 1 ? (sorted[Math.floor(middle)] ?? Number.NaN) : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2
}

export function rounded(number: number, places = 2): number {
  return Number(number.toFixed(places))
}

/** Watches how much of the machine others used meanwhile: a ratio taken on a disturbed machine must say so. */
export function watchMachine(postmasterPid: number): () => { othersShare: number } {
  const begun = reading(postmasterPid)
  return () => {
    const now = reading(postmasterPid)
    const busy = now.busy - begun.busy
    const others = busy - (now.ours - begun.ours)
    const othersShare = rounded(Math.max(0, others) / Math.max(1, now.all - begun.all))
    if (othersShare > 0.1) say(`others used ${Math.round(othersShare * 100)} % of the machine meanwhile: take the ratios with care`)
    return { othersShare }
  }
}

// The kernel counts in ticks of 10 ms on every Linux that Node runs on.
const TICK_MS = 10

function reading(postmasterPid: number): { all: number; busy: number; ours: number } {
  const times = cpus().map(cpu => cpu.times)
  const all = times.reduce((sum, time) => sum + time.user + time.nice + time.sys + time.idle + time.irq, 0)
  const idle = times.reduce((sum, time) => sum + time.idle, 0)
  const own = process.cpuUsage()
  return { all, busy: all - idle, ours: (own.user + own.system) / 1000 + postgresMs(postmasterPid) }
}

/** CPU of the postmaster, its live children, and those it has reaped. */
function postgresMs(postmasterPid: number): number {
  let ticks = 0
  for (const pid of readdirSync('/proc').filter(name => /^\d+$/.test(name))) {
    const fields = statOf(pid)
    if (fields === undefined) continue
    const isPostmaster = Number(pid) === postmasterPid
    if (!isPostmaster && Number(fields[1]) !== postmasterPid) continue
    ticks += Number(fields[11]) + Number(fields[12]) + (isPostmaster ? Number(fields[13]) + Number(fields[14]) : 0)
  }
  return ticks * TICK_MS
}

function statOf(pid: string): string[] | undefined {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')
  } catch {
    return undefined
  }
}
