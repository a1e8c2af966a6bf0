import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../src/clock.ts'

const checkout = fileURLToPath(new URL('../..', import.meta.url))
const NOBODY = 65_534

/** What the image holds, in a folder of its own with nothing else in it but, with `modules`, the sources' libraries. Call `remove` when done. */
export function buildBundle({ modules = false } = {}): { folder: string; remove(): void } {
  const built = spawnSync(process.execPath, [join(checkout, 'scripts', 'bundle.ts')], { encoding: 'utf8' })
  if (built.status !== 0) throw new Error(`the bundle was not built: ${built.stderr}`)
  const folder = mkdtempSync(join(tmpdir(), 'pawl-bundle-'))
  cpSync(join(checkout, 'dist'), folder, { recursive: true })
  if (modules) symlinkSync(join(checkout, 'node_modules'), join(folder, 'node_modules'))
  chmodSync(folder, 0o755)
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) }
}

/** Node's flags in the image's ENTRYPOINT: what is measured here is what runs there. */
export function imageFlags(): string[] {
  const entry = /^ENTRYPOINT (.*)$/m.exec(readFileSync(join(checkout, 'Dockerfile'), 'utf8'))?.[1]
  if (entry === undefined) throw new Error('the Dockerfile has no ENTRYPOINT')
  return (JSON.parse(entry) as string[]).filter(word => word.startsWith('--'))
}

/** Runs the bundle as an unprivileged user, the way the image does. */
function launch(folder: string, words: string[], url: string, env: Record<string, string> = {}) {
  return spawn(process.execPath, [...imageFlags(), join(folder, 'pawl.mjs'), ...words], {
    cwd: '/',
    env: { DATABASE_URL: url, NODE_ENV: 'production', PAWL_HTTP_PORT: '0', PAWL_HTTP_HOST: '127.0.0.1', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
    ...(process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {}),
  })
}

/** Runs one command of the bundle; its exit code and what it printed. */
export async function runBundle(folder: string, words: string[], url: string): Promise<{ code: number | null; out: string }> {
  const child = launch(folder, words, url)
  let out = ''
  child.stdout.on('data', chunk => {
    out += String(chunk)
  })
  const code = await new Promise<number | null>(resolve => child.on('close', resolve))
  return { code, out }
}

export type BundledWorker = { pid: number; uid: number; readyMs: number; rssMb(): number; end(): Promise<number | null> }

/** Starts `pawl work` from the bundle and resolves when it says that it is ready, with the time that took from its start. */
export async function startBundle(folder: string, url: string, env: Record<string, string> = {}): Promise<BundledWorker> {
  const begun = systemClock.elapsed()
  const child = launch(folder, ['work'], url, env)
  const exited = new Promise<number | null>(resolve => child.on('exit', resolve))
  const ready = new Promise<void>((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', line => {
      if (line.includes('"worker ready"')) resolve()
    })
    void exited.then(code => reject(new Error(`the bundle ended with ${code} before it was ready`)))
  })
  await ready
  const readyMs = systemClock.elapsed() - begun
  const status = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1])
  return {
    pid: child.pid ?? 0,
    uid: status('Uid'),
    readyMs,
    rssMb: () => status('VmRSS') / 1024,
    end() {
      child.kill('SIGTERM')
      return exited
    },
  }
}
