import { replay } from './chooser.ts'
import type { Lane } from './lane.ts'
import { type Played, play } from './play.ts'
import type { Scenario } from './scenario.ts'

/** Schedules that a shrinking may play. */
const TRIES_MAX = 250

/**
 * The shortest schedule found that still goes wrong: takes choices out of it, many at once as long as that works, then one by one. What a shorter
 * list does not say is decided without any change of turn (whoever runs goes on), so what is left is what the defect needs. Undefined where the same
 * choices don't go wrong a second time.
 */
export async function shrink(lane: Lane, scenario: Scenario, found: Played): Promise<Played | undefined> {
  let tries = 0
  const fails = async (choices: readonly string[]): Promise<Played | undefined> => {
    if (tries >= TRIES_MAX) return undefined
    tries += 1
    const played = await play(lane, scenario, found.seed, replay(choices))
    return played.violations.length > 0 ? played : undefined
  }
  let kept = found.choices
  let best = await fails(kept)
  if (best === undefined) return undefined
  // After the last fault or change of turn that matters, the rest comes by itself.
  for (let pieces = 2; kept.length > 0; ) {
    const size = Math.max(1, Math.ceil(kept.length / pieces))
    let isShorter = false
    for (let from = kept.length; from > 0 && !isShorter; from -= size) {
      const fewer = [...kept.slice(0, Math.max(0, from - size)), ...kept.slice(from)]
      const played = await fails(fewer)
      if (played === undefined) continue
      best = played
      kept = fewer
      isShorter = true
    }
    if (!isShorter && size === 1) break
    pieces = isShorter ? Math.max(2, pieces - 1) : Math.min(kept.length, pieces * 2)
  }
  return { ...best, choices: [...kept] }
}
