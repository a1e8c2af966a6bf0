import type { Sample } from './samples.ts'

/** One thing that must not grow: its median in the second third of the time, in the last third, and whether that is flat. */
export type Verdict = { what: string; unit: string; before: number; after: number; ratio: number; flat: boolean }

const TOLERANCE = 1.05
/** An index of random keys is between half and wholly full, and its pages fill at the same time: it may swing by as much, and no more. */
const INDEX_TOLERANCE = 1.4

/**
 * Compares the last third of a soak with the one before; the first is the warm-up.
 * Memory, connections and whatever holds the same rows must stay within 5 %. History grows with what is done: there it is the bytes a row.
 */
export function judge(samples: readonly Sample[]): Verdict[] {
  const third = Math.floor(samples.length / 3)
  if (third < 3) throw new Error(`${samples.length} samples are too few to compare two thirds of them: soak for longer`)
  const [before, after] = [samples.slice(third, 2 * third), samples.slice(2 * third)]
  const compare = (what: string, unit: string, tolerance: number, value: (sample: Sample) => number | undefined): Verdict => {
    const [first, last] = [median(before.map(value)), median(after.map(value))]
    const ratio = last / first
    return { what, unit, before: first, after: last, ratio, flat: ratio <= tolerance }
  }
  const names = Object.keys(after[0]?.relations ?? {}).filter(name => before.every(sample => sample.relations[name] !== undefined))
  return [
    compare('memory of the worker', 'MB', TOLERANCE, sample => sample.rssMb),
    compare('connections', '', TOLERANCE, sample => sample.connections),
    ...names.flatMap(name => [
      compare(name, 'bytes a row', TOLERANCE, sample => perRow(sample, name, 'heap')),
      compare(`${name}, its indexes`, 'bytes a row', INDEX_TOLERANCE, sample => perRow(sample, name, 'indexes')),
    ]),
  ]
}

function perRow(sample: Sample, name: string, part: 'heap' | 'indexes'): number | undefined {
  const relation = sample.relations[name]
  return relation === undefined ? undefined : relation[part] / Math.max(1, relation.rows)
}

function median(values: readonly (number | undefined)[]): number {
  const sorted = values.filter(value => value !== undefined).sort((left, right) => left - right)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}
