/** Numbers that only seem to be chance: the same seed gives the same ones again. */
export type Chance = {
  /** From 0 to below 1. */
  next(): number
  /** A whole number from 0 to below `limit`. */
  below(limit: number): number
  happens(probability: number): boolean
  pick<Item>(items: readonly [Item, ...Item[]] | readonly Item[]): Item
}

/** Mulberry32: short, quick, and good enough to shuffle statements. */
export function chanceOf(seed: number): Chance {
  let state = (seed * 2_654_435_761) >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  const below = (limit: number) => Math.floor(next() * limit)
  return {
    next,
    below,
    happens: probability => next() < probability,
    pick(items) {
      if (items.length === 0) throw new Error('there is nothing to pick from')
      return items[below(items.length)] as (typeof items)[number]
    },
  }
}
