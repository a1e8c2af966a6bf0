import { randomInt } from 'node:crypto'
import fc from 'fast-check'

/** How many values each property is tried with: a few in npm test, PAWL_FUZZ_RUNS for a long pass. */
export const runs = Number(process.env.PAWL_FUZZ_RUNS ?? 10)

/**
 * PAWL_FUZZ_SEED replays a pass. Without it each long one has values of its own, and the short one always the same: nobody's
 * change should fail for another's defect.
 */
export const seed = Number(process.env.PAWL_FUZZ_SEED ?? (process.env.PAWL_FUZZ_RUNS === undefined ? 1 : randomInt(2 ** 31)))

export const settings = { numRuns: runs, seed }

/**
 * Every different fault that `faultsOf` finds among so many values, each once with an example and the seed. Nothing is shrunk: a text of a
 * megabyte would be for minutes, and one fault would hide the others.
 */
export async function faultsIn<Value>(
  values: fc.Arbitrary<Value>,
  { numRuns }: { numRuns: number },
  faultsOf: (value: Value) => Promise<string[]>,
): Promise<string[]> {
  const found = new Map<string, string>()
  for (const value of fc.sample(values, { numRuns, seed })) {
    for (const fault of await faultsOf(value)) {
      // By its shape: the same sentence with another number or name in it is the same fault.
      const shape = fault.replace(/"[^"]*"|\d+/g, '#').slice(0, 80)
      if (!found.has(shape)) found.set(shape, `${fault} [PAWL_FUZZ_SEED=${seed}: ${JSON.stringify(value)?.slice(0, 400)}]`)
    }
  }
  return [...found.values()]
}

/** Says once which pass this is: in a long one a crash of the process leaves no other trace of it. */
export function announce(what: string): void {
  if (process.env.PAWL_FUZZ_RUNS !== undefined) process.stderr.write(`${what}: PAWL_FUZZ_RUNS=${runs} PAWL_FUZZ_SEED=${seed}\n`)
}
