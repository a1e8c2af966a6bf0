import { systemClock } from '../src/clock.ts'
import type { Terminal } from './terminal.ts'

/** How things stand: lines to show, whether it is over, and whether it ended well. */
export type Look = { lines: string[]; over: boolean; well: boolean }

const EVERY_MS = 200

/** Shows how things stand, redrawn in place on a terminal and once at the end elsewhere, until it is over; to machines nothing. True when it ended well. */
export async function follow(terminal: Terminal, look: () => Promise<Look>, stopped: AbortSignal, patienceMs: number): Promise<boolean> {
  const deadline = systemClock.elapsed() + patienceMs
  let drawn = 0
  while (!stopped.aborted && systemClock.elapsed() < deadline) {
    const { lines, over, well } = await look()
    if ((terminal.live || over) && !terminal.json) {
      if (drawn > 0) terminal.out(`\x1b[${drawn}A\x1b[J`)
      for (const line of lines) terminal.out(line)
      drawn = lines.length + 1
    }
    if (over) return well
    await systemClock.sleep(EVERY_MS, stopped)
  }
  return false
}
