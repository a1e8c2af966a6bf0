import { execFile, spawn, spawnSync } from 'node:child_process'
import { chmod, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, inject, onTestFinished } from 'vitest'
import { ask } from '../support/embedded.ts'
import { withDatabase } from '../support/global.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { postgres15Bin } from '../support/postgres15.ts'
import { runPawl } from '../support/process.ts'
import { until } from '../support/until.ts'

const door = fileURLToPath(new URL('../../bin/pawl.ts', import.meta.url))

export type Stage = {
  db: TestDatabase
  place: string
  env: Record<string, string>
  files(): Promise<string[]>
  pawl(words: string[], env?: Record<string, string>): ReturnType<typeof runPawl>
  /** What the command answered to a machine, and its exit code. */
  json(words: string[], env?: Record<string, string>): Promise<Record<string, unknown> & { code: number | null }>
}

/** A database and a directory for its backups, until the test ends. */
export async function openStage({ empty = false } = {}): Promise<Stage> {
  const db = await createDatabase({ empty })
  const place = await mkdtemp(join(tmpdir(), 'pawl-cli-backup-'))
  onTestFinished(async () => {
    await db.drop()
    await rm(place, { recursive: true, force: true })
  })
  const env = { BACKUP_DIR: place, PAWL_PG_BIN: postgres15Bin }
  const pawl = (words: string[], more: Record<string, string> = {}) => runPawl(words, db.url, { env: { ...env, ...more } })
  return {
    db,
    place,
    env,
    pawl,
    files: async () => (await readdir(place)).sort(),
    async json(words, more = {}) {
      const { code, stdout, stderr } = await pawl([...words, '--json'], more)
      expect(stdout, stderr).toMatch(/^\{.*\}\n$/)
      return { ...(JSON.parse(stdout) as Record<string, unknown>), code }
    },
  }
}

/** The name of a database to restore into, dropped at the end of the test. */
export function newName(): string {
  const name = `pawl_restored_${Math.random().toString(36).slice(2, 10)}`
  onTestFinished(() => ask(inject('adminUrl'), `drop database if exists ${name} with (force)`).then(() => {}))
  return name
}

/** What the copy says to one statement. */
export const inCopy = <Row extends Record<string, unknown>>(name: string, query: string) => ask<Row>(withDatabase(inject('adminUrl'), name), query)

/** Keeps writing until the returned function is called; that gives how often it wrote. */
export function writers(db: TestDatabase): () => Promise<number> {
  let isOver = false
  let writes = 0
  const write = async (seed: number) => {
    while (!isOver) {
      await db.query(`insert into public.categories (name) values ($1)`, [`written while a backup ran ${seed} ${writes}`])
      await db.query('update public.recipients set is_active = not is_active where id = (select min(id) + $1 from public.recipients)', [writes % 1000])
      writes += 1
    }
  }
  const writing = Promise.all([write(1), write(2)])
  return async () => {
    isOver = true
    await writing
    return writes
  }
}

/** `sh -c` with `pawl` and the tools of PostgreSQL in its path. */
export async function shell({ db, env }: Stage, line: string): Promise<{ code: number; stdout: string; stderr: string }> {
  const { DATABASE_URL: _, ...own } = process.env
  const script = `set -o pipefail; pawl() { '${process.execPath}' '${door}' "$@"; }; ${line}`
  return promisify(execFile)('/bin/bash', ['-c', script], { env: { ...own, ...env, DATABASE_URL: db.url, PATH: `${postgres15Bin}:${own.PATH}` } }).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  )
}

/** A key pair by the stock age-keygen. */
export async function newKey(place: string, name: string): Promise<{ file: string; recipient: string }> {
  const file = join(place, name)
  const made = spawnSync('age-keygen', ['-o', file], { encoding: 'utf8' })
  if (made.status !== 0) throw new Error(`age-keygen is not installed: apt-get install age\n${made.stderr}`)
  await chmod(file, 0o600)
  return { file, recipient: /(age1\S+)/.exec(await readFile(file, 'utf8'))?.[1] ?? '' }
}

/** A command that is told to stop when its standard error has said `word`, or when `when` holds. */
export async function interrupted({ db, env }: Stage, words: string[], { word, when }: { word?: string; when?: () => Promise<boolean> }) {
  const { DATABASE_URL: _, ...own } = process.env
  const child = spawn(process.execPath, [door, ...words], { env: { ...own, ...env, DATABASE_URL: db.url }, stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = new Promise<number | null>(resolve => child.on('close', resolve))
  const lines: string[] = []
  createInterface({ input: child.stderr }).on('line', line => lines.push(line))
  await until(`the command says ${word}`, async () => (word === undefined ? await when?.() : lines.some(line => line.startsWith(word))))
  child.kill('SIGINT')
  return { code: await ended, stderr: lines.join('\n') }
}
