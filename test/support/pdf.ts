import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const installed = spawnSync('pdftotext', ['-v']).error === undefined

/** Whether tests that read PDFs must be left out; says so, loudly. In CI nothing is left out: they fail there. */
export function popplerMissing(): boolean {
  if (installed || process.env.CI !== undefined) return false
  console.warn('SKIPPED: a test that reads PDFs. Install what reads them to run it: apt-get install poppler-utils')
  return true
}

/** The text of each page, as it stands there. */
export function pagesOf(pdf: Uint8Array): string[] {
  return read('pdftotext', pdf, file => ['-layout', '-enc', 'UTF-8', file, '-'])
    .toString()
    .split('\f')
    .slice(0, -1)
}

/** What the PDF says of itself: Title, Pages and so on. */
export function infoOf(pdf: Uint8Array): Map<string, string> {
  const lines = read('pdfinfo', pdf, file => ['-isodates', '-enc', 'UTF-8', file])
    .toString()
    .split('\n')
  return new Map(lines.map(line => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]))
}

/** How many points of each colour (#rrggbb) there are on a page, drawn with 72 of them to an inch. */
export function coloursOf(pdf: Uint8Array, page: number): Map<string, number> {
  const options = ['-r', '72', '-aa', 'no', '-aaVector', 'no', '-f', String(page), '-l', String(page)]
  const image = read('pdftoppm', pdf, file => [...options, file])
  const head = /^P6\s+\d+\s+\d+\s+255\s/.exec(image.subarray(0, 40).toString('latin1'))
  if (head === null) throw new Error('pdftoppm wrote no PPM image')
  const found = new Map<string, number>()
  for (let at = head[0].length; at + 2 < image.length; at += 3) {
    const colour = `#${image.subarray(at, at + 3).toString('hex')}`
    found.set(colour, (found.get(colour) ?? 0) + 1)
  }
  return found
}

function read(program: string, pdf: Uint8Array, options: (file: string) => string[]): Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-pdf-'))
  try {
    writeFileSync(join(folder, 'it.pdf'), pdf)
    const { stdout, stderr, status, error } = spawnSync(program, options(join(folder, 'it.pdf')), { maxBuffer: 1 << 28, timeout: 60_000 })
    if (error) throw new Error(`${program} does not run (apt-get install poppler-utils): ${error.message}`)
    // It also complains of what it can mend; a file of ours has nothing to mend.
    if (status !== 0 || stderr.length > 0) throw new Error(`${program} refuses the file: ${stderr.toString()}`)
    return stdout
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
