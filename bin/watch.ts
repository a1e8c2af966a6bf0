import { systemClock } from '../src/clock.ts'
import { failureOf, isPassing } from './failure.ts'
import { answer, type Terminal, type Values } from './terminal.ts'
import { shutdownSignal } from './signals.ts'

/** What is seen at one moment, for machines and for people. `isOver`: there will be nothing new. */
export type Frame = { machine: unknown; people: string; isOver?: boolean }

/**
 * Shows what `look` finds: once, or with --watch again and again until somebody stops it or it is over. On a terminal each frame is drawn over the last;
 * into a pipe they follow each other, with --json one a line. A database that is away for a while is told, and asked again.
 */
export async function show(terminal: Terminal, { watch }: Values, look: () => Promise<Frame>): Promise<Frame> {
  const first = await look()
  if (typeof watch !== 'string') {
    answer(terminal, first.machine, first.people)
    return first
  }
  const stop = new AbortController()
  void shutdownSignal().then(() => stop.abort())
  let frame = first
  let drawn = 0
  for (;;) {
    draw(terminal, frame, drawn++)
    if (frame.isOver === true) return frame
    await systemClock.sleep(Number(watch) * 1000, stop.signal)
    if (stop.signal.aborted) return frame
    frame = await look().catch((error: unknown): Frame => {
      if (!isPassing(error)) throw error
      const { code, message, hint } = failureOf(error)
      return { machine: { error: { code, message, hint } }, people: `${message}; asking again` }
    })
  }
}

function draw(terminal: Terminal, { machine, people }: Frame, place: number): void {
  if (!terminal.live) {
    // Frames that follow each other are told apart by an empty line.
    answer(terminal, machine, place > 0 ? `\n${people}` : people)
    return
  }
  // What is drawn anew scrolls, and could not be drawn over, if it were taller than the terminal.
  const { rows } = process.stdout
  const lines = people.split('\n')
  const shown = lines.length < rows ? lines : [...lines.slice(0, rows - 2), `… ${lines.length - rows + 2} more lines`]
  terminal.out(`${place === 0 ? '\x1b[2J' : ''}\x1b[H${shown.map(line => `${line}\x1b[K`).join('\n')}\x1b[J`)
}
