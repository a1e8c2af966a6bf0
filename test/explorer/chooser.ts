import { type Chance, chanceOf } from './chance.ts'

/** What may happen next: statements that wait for leave, by the name of their actor, and faults. */
export type Options = { threads: readonly string[]; faults: readonly string[] }

/** Decides what happens next; the name of one of the options. */
export type Chooser = (options: Options) => string

/**
 * One of three manners, by the seed. `uniform`: anyone, any time. `sticky`: whoever runs mostly goes on, so that one gets far while the others stand
 * still. `ranked`: the highest rank always goes first, and a few times somebody falls to the bottom (after PCT: a defect that needs d changes of
 * turn is found with a probability that does not shrink with the number of actors' steps to the power of all orders).
 */
export function seededChooser(seed: number): Chooser {
  const chance = chanceOf(seed)
  const manner = chance.pick([uniform, sticky, ranked])(chance)
  const faultRate = chance.pick([0.03, 0.08, 0.15, 0.25])
  // Else the few faults of a schedule would all strike at its beginning.
  let calm = chance.below(chance.pick([1, 20, 50]))
  return ({ threads, faults }) => {
    calm -= 1
    if (faults.length > 0 && calm < 0 && chance.happens(faultRate)) return chance.pick(faults)
    return manner(threads)
  }
}

type Manner = (chance: Chance) => (threads: readonly string[]) => string

const uniform: Manner = chance => threads => chance.pick(threads)

const sticky: Manner = chance => {
  let last = ''
  return threads => {
    last = threads.includes(last) && chance.happens(0.85) ? last : chance.pick(threads)
    return last
  }
}

const ranked: Manner = chance => {
  const ranks = new Map<string, number>()
  const changes = new Set(Array.from({ length: 5 }, () => chance.below(60)))
  let step = 0
  let bottom = 0
  return threads => {
    for (const thread of threads) if (!ranks.has(thread)) ranks.set(thread, 1 + chance.next())
    const first = () => threads.reduce((best, thread) => ((ranks.get(thread) ?? 0) > (ranks.get(best) ?? 0) ? thread : best))
    if (changes.has(step)) ranks.set(first(), (bottom -= 1))
    step += 1
    // Somebody who polls for ever would keep the others from what he waits for.
    return chance.happens(0.02) ? chance.pick(threads) : first()
  }
}

/** Follows choices that were written down; what is not possible any more is passed over, and after the last one whoever runs goes on. */
export function replay(choices: readonly string[]): Chooser {
  let place = 0
  let last = ''
  return ({ threads, faults }) => {
    while (place < choices.length) {
      const choice = choices[place] as string
      place += 1
      if (!threads.includes(choice) && !faults.includes(choice)) continue
      if (threads.includes(choice)) last = choice
      return choice
    }
    last = threads.includes(last) ? last : (threads[0] ?? faults[0] ?? '')
    return last
  }
}
