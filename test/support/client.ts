import { spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import type { TestDatabase } from './postgres.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Logins that are nothing but members of one group role each, and their pools. */
export type Logins = {
  producer: pg.Pool
  observer: pg.Pool
  operator: pg.Pool
  urlOf(role: 'producer' | 'observer' | 'operator'): string
  /** Closes the pools and drops the logins. */
  drop(): Promise<void>
}

/** Creates the logins; they are the cluster's, so `drop` must be called. */
export async function createLogins(db: TestDatabase): Promise<Logins> {
  const suffix = randomBytes(6).toString('hex')
  const nameOf = (role: string) => `pawl_client_${role}_${suffix}`
  const roles = ['producer', 'observer', 'operator'] as const
  for (const role of roles) await db.query(`create role ${nameOf(role)} login password 'secret' in role pawl_${role}`)
  const urlOf: Logins['urlOf'] = role => db.urlAs(nameOf(role), 'secret')
  const [producer, observer, operator] = roles.map(role => poolOf(urlOf(role))) as [pg.Pool, pg.Pool, pg.Pool]
  return {
    producer,
    observer,
    operator,
    urlOf,
    async drop() {
      await Promise.all([producer, observer, operator].map(pool => pool.end()))
      for (const role of roles) await db.query(`drop owned by ${nameOf(role)}`).then(() => db.query(`drop role ${nameOf(role)}`))
    },
  }
}

/** A pool that survives what tests do to its idle connections, as a service's must. */
export function poolOf(connectionString: string): pg.Pool {
  const pool = new pg.Pool({ connectionString, max: 2 })
  pool.on('error', () => {})
  return pool
}

/** A folder as `npm install` would leave it: the compiled client with its package.json, and pg. Returns its path and how to remove it. */
export async function installClient(): Promise<{ folder: string; remove(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'pawl-client-'))
  const client = join(folder, 'node_modules/@pawl/client')
  await mkdir(client, { recursive: true })
  await cp(join(root, 'client/package.json'), join(client, 'package.json'))
  const built = compile(['-p', join(root, 'client'), '--outDir', join(client, 'dist')])
  if (built.status !== 0) throw new Error(`the client does not compile:\n${built.stdout}`)
  for (const name of ['pg', '@types']) await symlink(join(root, 'node_modules', name), join(folder, 'node_modules', name))
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) }
}

/** Runs the TypeScript compiler. */
export function compile(words: string[]): { status: number | null; stdout: string } {
  return spawnSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), ...words], { encoding: 'utf8' })
}

/** Runs a program to its end, with nothing of our environment but the path and what is given. */
export async function runProgram(command: string, words: string[], options: { cwd?: string; env?: Record<string, string> } = {}) {
  const env = { PATH: process.env.PATH, ...options.env }
  const child = spawn(command, words, { env, stdio: ['ignore', 'pipe', 'pipe'], ...(options.cwd === undefined ? {} : { cwd: options.cwd }) })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', chunk => (stdout += chunk))
  child.stderr.on('data', chunk => (stderr += chunk))
  const code = await new Promise<number | null>((resolve, reject) => child.on('error', reject).on('close', resolve))
  return { code, stdout, stderr }
}
