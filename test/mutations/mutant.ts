/** A planted bug: what stands in a file, and what is put in its place. */
export type Change = { file: string; before: string; after: string }

export type Mutant = {
  /** A few words, unique, for `--only`. */
  name: string
  /** What would go wrong with it in the field. */
  why: string
  changes: readonly Change[]
  /** The files of which one must notice. */
  tests: readonly string[]
  /** Part of the short pass. */
  quick?: boolean
}

/** Pairs of texts, all of one file. */
export function within(file: string, ...pairs: readonly (readonly [before: string, after: string])[]): Change[] {
  return pairs.map(([before, after]) => ({ file, before, after }))
}

/** What is wrong with the list itself, as seen from the files' texts: a mutant that no longer fits plants nothing, and would be caught by nobody. */
export function rotten(mutants: readonly Mutant[], textOf: (file: string) => string): string[] {
  const names = Map.groupBy(mutants, ({ name }) => name)
  const doubled = [...names].filter(([, own]) => own.length > 1).map(([name]) => `${name}: there are two of that name`)
  const unfit = mutants.flatMap(({ name, changes }) =>
    changes.flatMap(({ file, before, after }) => {
      const times = textOf(file).split(before).length - 1
      if (before === after) return [`${name}: changes nothing`]
      return times === 1 ? [] : [`${name}: ${file} has ${times} times ${JSON.stringify(before)}`]
    }),
  )
  return [...doubled, ...unfit]
}
