/** The cells of CSV as RFC 4180 has it, lines ended by a newline. An empty cell is NULL unless it is quoted. Throws where the text is none. */
export function readCsv(text: string): (string | null)[][] {
  const found: (string | null)[][] = []
  let row: (string | null)[] = []
  let at = 0
  for (const [whole, quoted, bare = '', end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n)/gy)) {
    at += whole.length
    row.push(quoted === undefined ? (bare === '' ? null : bare) : quoted.replaceAll('""', '"'))
    if (end === ',') continue
    found.push(row)
    row = []
  }
  if (at !== text.length || row.length > 0) throw new Error(`no CSV from character ${at} on: ${JSON.stringify(text.slice(at, at + 80))}`)
  return found
}
