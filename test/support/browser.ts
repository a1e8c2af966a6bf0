import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { onTestFinished } from 'vitest'

const run = promisify(execFile)

const binary = ['chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome'].map(name => `/usr/bin/${name}`).find(existsSync)

/** Whether tests with a real browser must be left out; says so, loudly. In CI nothing is left out: they fail there. */
export function browserMissing(): boolean {
  if (binary !== undefined || process.env.CI !== undefined) return false
  console.warn('SKIPPED: a test with a real browser. Install it to run it: apt-get install chromium-headless-shell')
  return true
}

/** What the browser made of a page, as it writes it down itself. */
export async function domOf(page: string): Promise<string> {
  const { address } = await stored(page)
  return browse(['--dump-dom', address])
}

/** The page as the browser prints it: a PDF. */
export async function printed(page: string): Promise<Uint8Array> {
  const { address, folder } = await stored(page)
  await browse([`--print-to-pdf=${join(folder, 'printed.pdf')}`, '--no-pdf-header-footer', address])
  return readFile(join(folder, 'printed.pdf'))
}

/** The texts of the cells of each row of the bodies of a page's tables; fails where a cell holds anything but text. */
export function cellsOf(dom: string): string[][] {
  return [...dom.matchAll(/<tr>(.*?)<\/tr>/gs)].flatMap(([, row = '']) => {
    if (row.startsWith('<th')) return []
    const cells = [...row.matchAll(/<td[^>]*>([^<]*)<\/td>/g)]
    if (cells.map(([whole]) => whole).join('') !== row) throw new Error(`a cell holds more than text: ${row}`)
    return [cells.map(([, text = '']) => unescaped(text))]
  })
}

/** Text as it was before a browser wrote it down. */
export function unescaped(text: string): string {
  return text.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&nbsp;', '\u00a0').replaceAll('&amp;', '&')
}

async function stored(page: string): Promise<{ address: string; folder: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'pawl-browser-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'page.html'), page)
  return { address: `file://${join(folder, 'page.html')}`, folder }
}

async function browse(options: string[]): Promise<string> {
  if (binary === undefined) throw new Error('no browser is installed: apt-get install chromium-headless-shell')
  const always = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage']
  const { stdout } = await run(binary, [...always, ...options], { timeout: 60_000, maxBuffer: 1 << 28 })
  return stdout
}
