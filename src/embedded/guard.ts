import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { systemClock } from '../clock.ts'
import { PawlError } from '../errors.ts'

/** A first start takes seconds; who holds the lock for longer than this hangs, or is a stranger with the pid of one who died. */
const PATIENCE_MS = 60_000

/** Runs `work` while holding the lock file at `path`, which names our pid; a lock whose process is gone is taken over. */
export async function holding<Result>(path: string, work: () => Promise<Result>, patienceMs = PATIENCE_MS): Promise<Result> {
  const deadline = systemClock.elapsed() + patienceMs
  while (!take(path)) {
    if (systemClock.elapsed() > deadline) {
      throw new PawlError('embedded.locked', `process ${read(path)} has held ${path} for ${patienceMs / 1000} s`, {
        hint: `end it, or delete ${path} if it is no process of Pawl`,
      })
    }
    await systemClock.sleep(25)
  }
  try {
    return await work()
  } finally {
    rmSync(path, { force: true })
  }
}

function take(path: string): boolean {
  try {
    writeFileSync(path, String(process.pid), { flag: 'wx' })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  const holder = Number(read(path))
  // An empty file: its holder is just writing it.
  if (holder > 0 && !isAlive(holder)) rmSync(path, { force: true })
  return false
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** Whether a process of this id exists, ours or not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
