/** Those of `words` that somebody who typed `word` may have meant, the likeliest first; three at most. */
export function nearest(word: string, words: readonly string[]): string[] {
  const typed = word.toLowerCase()
  return words
    .map(candidate => ({ candidate, far: distance(typed, candidate.toLowerCase()), begins: typed.length > 1 && candidate.toLowerCase().startsWith(typed) }))
    .filter(({ candidate, far, begins }) => begins || far <= Math.min(2, Math.floor(Math.max(typed.length, candidate.length) / 2)))
    .sort((a, b) => Number(b.begins) - Number(a.begins) || a.far - b.far)
    .slice(0, 3)
    .map(({ candidate }) => candidate)
}

/** `did you mean status or stop? `, or nothing. */
export function didYouMean(word: string, words: readonly string[]): string {
  const close = nearest(word, words)
  return close.length === 0 ? '' : `did you mean ${close.join(' or ')}? `
}

/** Letters to add, take away, change or swap with their neighbour. */
function distance(a: string, b: string): number {
  const rows = Array.from({ length: a.length + 1 }, (_, i) => Array.from({ length: b.length + 1 }, (_, j) => (i === 0 ? j : j === 0 ? i : 0)))
  const at = (i: number, j: number) => rows[i]?.[j] ?? Number.POSITIVE_INFINITY
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const isSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      const row = rows[i]
      if (row === undefined) continue
      row[j] = Math.min(
        at(i - 1, j) + 1,
        at(i, j - 1) + 1,
        at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1),
        isSwapped ? at(i - 2, j - 2) + 1 : Number.POSITIVE_INFINITY,
      )
    }
  }
  return at(a.length, b.length)
}
