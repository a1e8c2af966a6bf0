import { spawn } from 'node:child_process'
import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Change, Mutant } from './mutant.ts'
import type { Report } from './verdict.ts'

/** What a run of tests came to: its report, or what it said when there is none. */
export type Tested = { report: Report | undefined; isTimedOut: boolean; words: string }

/** A copy of the checkout in which bugs may be planted. */
export type Sandbox = {
  plant(mutant: Mutant): Promise<void>
  /** Puts back what `plant` has changed. */
  heal(mutant: Mutant): Promise<void>
  test(files: readonly string[], options: { environment: Record<string, string>; isPatient: boolean }): Promise<Tested>
  remove(): Promise<void>
}

/** Made anew by whoever needs it, or too large. */
const LEFT_OUT = new Set(['node_modules', '.git', '.pawl', 'dist'])

/** Which configuration runs them: the files of one mutant are of one kind. */
export function configOf(files: readonly string[]): string {
  const kinds = new Set(files.map(file => /^test\/(crash|cli|postgres15)\//.exec(file)?.[1] ?? ''))
  if (kinds.size !== 1) throw new Error(`${files.join(', ')} are run by different configurations`)
  const [kind = ''] = kinds
  return kind === '' ? 'vitest.config.ts' : `vitest.${kind}.config.ts`
}

/** One test that waits for what the bug has taken away is enough. */
const TEST_MS = 90_000
const RUN_MS = 300_000

/** Copies the checkout; its libraries are linked, not copied. */
export async function openSandbox(checkout: string): Promise<Sandbox> {
  const folder = await mkdtemp(join(tmpdir(), 'pawl-mutant-'))
  for (const name of await readdir(checkout)) if (!LEFT_OUT.has(name)) await cp(join(checkout, name), join(folder, name), { recursive: true })
  await symlink(join(checkout, 'node_modules'), join(folder, 'node_modules'))
  const rewrite = async (changes: readonly Change[], turn: (change: Change) => [from: string, to: string]) => {
    for (const change of changes) {
      const path = join(folder, change.file)
      const [from, to] = turn(change)
      const text = await readFile(path, 'utf8')
      if (text.split(from).length !== 2) throw new Error(`${change.file} does not hold once ${JSON.stringify(from)}`)
      // A function, as a text would be searched for $1 and its kin.
      await writeFile(
        path,
        text.replace(from, () => to),
      )
    }
  }
  const originals = new Map<string, string>()
  return {
    async plant({ changes }) {
      for (const { file } of changes) originals.set(file, await readFile(join(folder, file), 'utf8'))
      await rewrite(changes, ({ before, after }) => [before, after])
    },
    async heal() {
      for (const [file, text] of originals) await writeFile(join(folder, file), text)
      originals.clear()
    },
    test: (files, options) => runTests(folder, files, options),
    remove: () => rm(folder, { recursive: true, force: true }),
  }
}

async function runTests(folder: string, files: readonly string[], options: { environment: Record<string, string>; isPatient: boolean }): Promise<Tested> {
  const output = join(folder, 'report.json')
  await rm(output, { force: true })
  const hurry = options.isPatient ? [] : ['--bail', '1', '--testTimeout', String(TEST_MS)]
  const words = ['run', '--config', configOf(files), ...files, ...hurry, '--reporter=json', `--outputFile=${output}`]
  const child = spawn(process.execPath, [join(folder, 'node_modules', 'vitest', 'vitest.mjs'), ...words], {
    cwd: folder,
    env: { ...process.env, NODE_OPTIONS: '--max-old-space-size=1024', ...options.environment },
    stdio: ['ignore', 'pipe', 'pipe'],
    // A group of its own: what a mutant leaves hanging goes with it.
    detached: true,
  })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', piece => (said = `${said}${String(piece)}`.slice(-4_000)))
  let isTimedOut = false
  const timer = setTimeout(
    () => {
      isTimedOut = true
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    },
    options.isPatient ? 10 * RUN_MS : RUN_MS,
  )
  await new Promise(resolve => child.on('exit', resolve))
  clearTimeout(timer)
  const text = await readFile(output, 'utf8').catch(() => undefined)
  return { report: text === undefined ? undefined : (JSON.parse(text) as Report), isTimedOut, words: said }
}
