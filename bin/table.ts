/** Rows as aligned columns under their names, for people; numbers to the right. */
export function table(rows: readonly Record<string, unknown>[]): string {
  const [first] = rows
  if (first === undefined) return '(none)'
  const names = Object.keys(first)
  const cells = rows.map(row => names.map(name => text(row[name])))
  const numeric = names.map((_, column) => rows.every(row => typeof row[names[column] ?? ''] !== 'string'))
  const widths = names.map((name, column) => Math.max(name.length, ...cells.map(row => row[column]?.length ?? 0)))
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => (numeric[column] ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd()
  return [line(names), ...cells.map(line)].join('\n')
}

function text(value: unknown): string {
  if (value === null || value === undefined) return ''
  if (value instanceof Date) return value.toISOString()
  if (Array.isArray(value)) return value.join(', ')
  return typeof value === 'object' ? JSON.stringify(value) : `${value as string | number}`
}

const BAR_CELLS = 24

/** A progress bar such as `██████░░░░`. `share` is from 0 to 1. */
export function bar(share: number): string {
  const full = Math.round(Math.min(1, Math.max(0, share)) * BAR_CELLS)
  return '█'.repeat(full) + '░'.repeat(BAR_CELLS - full)
}
