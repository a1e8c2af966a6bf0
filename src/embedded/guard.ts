import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { systemClock } from '../clock.ts'

/** Runs `work` while holding the lock file at `path`, which names our pid; a lock whose process is gone is taken over. */
export async function holding<Result>(path: string, work: () => Promise<Result>): Promise<Result> {
  while (!take(path)) await systemClock.sleep(25)
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
