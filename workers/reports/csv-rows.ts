const QUOTE = 0x22
const NEWLINE = 0x0a

/** Counts the rows that end in pieces of CSV as they go by; a newline within quotes ends none. */
export function csvRowCounter(): (bytes: Uint8Array) => number {
  let quoted = false
  return bytes => {
    let rows = 0
    let at = 0
    let quote = bytes.indexOf(QUOTE)
    while (at < bytes.length) {
      if (quoted) {
        if (quote === -1) return rows
        quoted = false
        at = quote + 1
        quote = bytes.indexOf(QUOTE, at)
        continue
      }
      const newline = bytes.indexOf(NEWLINE, at)
      if (newline !== -1 && (quote === -1 || newline < quote)) {
        rows += 1
        at = newline + 1
      } else if (quote !== -1) {
        quoted = true
        at = quote + 1
        quote = bytes.indexOf(QUOTE, at)
      } else return rows
    }
    return rows
  }
}
