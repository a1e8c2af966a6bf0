/** What can be done to the house. The first of each plan are one of each. */
export const KINDS = [
  'kill',
  'stop',
  'term',
  'crash',
  'storm',
  'connections',
  'pooler',
  'latency',
  'black hole',
  'promotion',
  'clock',
  'disk full',
  'migration',
] as const

export type Kind = (typeof KINDS)[number]

/** One fault. Worked out to the end: whoever carries it out draws nothing. */
export type Fault = {
  number: number
  kind: Kind
  /** From the begin of the load. */
  atMs: number
  /** How long it stays; 0 where it is a moment. */
  lastsMs: number
  /** Which worker, as a share of those that live. */
  victim: number
  /** How hard, 0 to 1: what it means, the fault says. */
  dose: number
}

/** How long each may stay, from and to. A stop goes on both sides of the lease. */
const LASTS: Readonly<Record<Kind, readonly [number, number]>> = {
  kill: [0, 0],
  stop: [500, 9_000],
  term: [0, 0],
  crash: [0, 3_000],
  storm: [500, 3_000],
  connections: [2_000, 5_000],
  pooler: [500, 4_000],
  latency: [2_000, 6_000],
  'black hole': [1_000, 9_000],
  promotion: [0, 0],
  clock: [0, 0],
  'disk full': [2_000, 5_000],
  migration: [0, 0],
}

/** After the first round: what happens to workers every day comes more often than what happens to a server. */
const DECK: readonly Kind[] = [...KINDS, 'kill', 'kill', 'kill', 'stop', 'stop', 'term', 'crash', 'storm', 'black hole']

const PACE_MS = 6_000

/** The faults of a seed, in their order: a function of these two and of nothing else. */
export function plan(seed: number, minutes: number): Fault[] {
  const random = seeded(seed)
  const count = Math.max(KINDS.length, Math.round((minutes * 60_000) / PACE_MS))
  const spaceMs = (minutes * 60_000) / count
  const kinds: Kind[] = shuffled(KINDS, random)
  while (kinds.length < count) kinds.push(...shuffled(DECK, random))
  return kinds.slice(0, count).map((kind, place) => {
    const [from, to] = LASTS[kind]
    return {
      number: place + 1,
      kind,
      atMs: Math.round((place + random() * 0.5) * spaceMs),
      // Where the plan is short, so are its faults, or they would be most of it.
      lastsMs: Math.round((from + random() * (to - from)) * Math.min(1, spaceMs / PACE_MS)),
      victim: round(random()),
      dose: round(random()),
    }
  })
}

/** A small generator (mulberry32), so that a failing order of events can be had again. */
function seeded(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

function shuffled<Item>(items: readonly Item[], random: () => number): Item[] {
  return items
    .map(item => ({ item, place: random() }))
    .sort((a, b) => a.place - b.place)
    .map(({ item }) => item)
}

const round = (share: number) => Math.round(share * 1000) / 1000
