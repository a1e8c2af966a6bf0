import type { Face } from './pdf-face.ts'

/** The lines of a text that is set as wide as this. Words longer than a line are cut into several. */
export function wrapped(face: Face, text: string, size: number, width: number): string[] {
  return text.split(/\r\n|\r|\n/).flatMap(line => {
    const lines: string[] = []
    let current = ''
    for (const word of line.split(/[ \t]+/).flatMap(whole => pieces(face, whole, size, width))) {
      const longer = current === '' ? word : `${current} ${word}`
      if (current === '' || face.measure(longer, size) <= width) current = longer
      else {
        lines.push(current)
        current = word
      }
    }
    return [...lines, current]
  })
}

function pieces(face: Face, word: string, size: number, width: number): string[] {
  if (face.measure(word, size) <= width) return [word]
  const found: string[] = []
  let piece = ''
  for (const character of word) {
    if (piece !== '' && face.measure(piece + character, size) > width) {
      found.push(piece)
      piece = ''
    }
    piece += character
  }
  return [...found, piece]
}
