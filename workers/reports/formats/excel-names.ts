const NAME_LENGTH_MAX = 31

/** Gives each sheet a name that Excel takes: of 31 characters at most, without `[]:*?/\`, and no two the same but for case. */
export function sheetNames(): (wanted: string) => string {
  const taken = new Set<string>()
  return wanted => {
    const base = allowed(wanted)
    for (let count = 1; ; count++) {
      const name = count === 1 ? shortened(base, '') : shortened(base, ` (${count})`)
      if (taken.has(name.toLowerCase())) continue
      taken.add(name.toLowerCase())
      return name
    }
  }
}

/** `A`, `Z`, `AA` … for 0, 25, 26 … */
export function columnLetters(index: number): string {
  const letter = String.fromCharCode(65 + (index % 26))
  return index < 26 ? letter : columnLetters(Math.floor(index / 26) - 1) + letter
}

function allowed(wanted: string): string {
  const name = wanted
    .replace(/[[\]:*?/\\]/g, ' ')
    .replace(/[\p{Cc}\p{Cs}\uFFFE\uFFFF]/gu, ' ')
    .replace(/\s+/g, ' ')
    // An apostrophe at either end would end the name where a formula quotes it.
    .replace(/^['\s]+|['\s]+$/g, '')
  if (name === '') return 'Sheet'
  // Excel keeps this name for itself and calls a file with such a sheet damaged.
  return name.toLowerCase() === 'history' ? `${name}_` : name
}

/** By whole characters, though Excel counts UTF-16 units: half of a pair would be no text. */
function shortened(name: string, ending: string): string {
  let kept = ''
  for (const character of name) {
    if (kept.length + character.length + ending.length > NAME_LENGTH_MAX) break
    kept += character
  }
  return kept.replace(/['\s]+$/, '') + ending
}
