import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { type EmbeddedOptions, type EmbeddedServer, startEmbedded } from '../../src/embedded.ts'
import { silent } from './postgres.ts'
import { until } from './until.ts'

/** A directory that does not exist yet, with a space in its path, gone when the test is over. */
export function freshDirectory(): string {
  const parent = mkdtempSync(join(tmpdir(), 'pawl embedded '))
  // The database's user, who is another when we are root, must come through.
  chmodSync(parent, 0o755)
  // More than once: a watchdog may be writing its last lines there.
  onTestFinished(async () => {
    await until('the directory is gone', () => spawnSync('rm', ['-rf', parent]).status === 0 && !existsSync(parent))
  })
  return join(parent, 'my server')
}

/** Starts or joins a server; given up when the test is over. */
export async function start(options: Omit<EmbeddedOptions, 'log'>): Promise<EmbeddedServer> {
  const server = await startEmbedded({ log: silent, ...options })
  onTestFinished(() => server.stop())
  return server
}

/** One statement on a connection of its own. */
export async function ask<Row extends Record<string, unknown>>(url: string, text: string): Promise<Row[]> {
  const connection = await connectDirect(readConfig({ DATABASE_URL: url }), 'test')
  try {
    return await connection.query<Row>(text)
  } finally {
    await connection.close()
  }
}

/** The postmaster's. */
export function pidOf(dataDir: string): number {
  return Number.parseInt(readFileSync(join(dataDir, 'postmaster.pid'), 'utf8'), 10)
}

/** A zombie has ended: its parent has only not asked yet how. */
export function runs(pid: number): boolean {
  return (
    spawnSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' })
      .stdout.trim()
      .replace(/^Z.*/, '') !== ''
  )
}

/** Waits until the process has ended. */
export const gone = (pid: number) => until(`process ${pid} has ended`, () => !runs(pid), 10_000)

/** What the other process said about its server. */
export type User = { child: ChildProcess; url: string; dataDir: string; adopted: boolean }

/** Another process that uses the server of `directory`; '' for an ephemeral one. */
export async function otherProcess(directory: string): Promise<User> {
  const child = spawn(process.execPath, [fileURLToPath(new URL('./embedded-user.ts', import.meta.url)), directory], { stdio: ['pipe', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  for await (const line of createInterface({ input: child.stdout })) return { child, ...(JSON.parse(line) as Omit<User, 'child'>) }
  throw new Error('the other process ended without a server')
}
