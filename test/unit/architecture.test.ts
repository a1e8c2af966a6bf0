import { expect, test } from 'vitest'
import { inspect, pureFiles, rules, type Tree } from '../support/architecture.ts'
import { readTree } from '../support/tree.ts'

test('the project keeps the rules of the house', () => {
  const breaches = inspect(readTree()).map(({ rule, file, line, message }) => `${file}:${line} ${message} [${rule}]`)
  expect(breaches, breaches.join('\n')).toEqual([])
})

test('what the rules look at is really there', () => {
  const tree = readTree()
  for (const file of [...pureFiles, 'bin/pawl.ts', 'src/database.ts', 'src/boss.ts', 'src/config.ts', 'src/clock.ts', 'bin/signals.ts', 'workers/index.ts']) {
    expect([...tree.keys()]).toContain(file)
  }
})

/** A small house in order: two domains, an engine, a door. */
const sound: Tree = new Map([
  ['bin/pawl.ts', `import { workers } from '../workers/index.ts'\nimport { stop } from './signals.ts'\nawait stop(workers)\n`],
  ['bin/signals.ts', `process.on('SIGTERM', () => process.exit(1))\nexport const stop = (...words: unknown[]) => words\n`],
  ['workers/index.ts', `import { load } from './refresh/load.ts'\nimport { apply } from './overrides/apply.ts'\nexport const workers = [load, apply]\n`],
  ['workers/refresh/load.ts', `import type { Worker } from '../../src/worker.ts'\nexport const load: Worker = { queue: 'refresh.load' }\n`],
  ['workers/overrides/apply.ts', `import type { Worker } from '../../src/worker.ts'\nexport const apply = { queue: 'overrides.apply' } satisfies Worker\n`],
  [
    'src/worker.ts',
    `import { query } from './database.ts'\nimport './queues.ts'\nimport './boss.ts'\nexport type Worker = { queue: string }\nexport const asked = query\n`,
  ],
  ['src/queues.ts', `export const queues = [\n  { name: 'refresh.load' },\n  { name: 'overrides.apply' },\n]\n`],
  ['src/database.ts', `import pg from 'pg'\nimport './config.ts'\nimport './clock.ts'\nexport const query = pg\n`],
  ['src/boss.ts', `import { PgBoss } from 'pg-boss'\nimport './embedded.ts'\nexport const boss = PgBoss\n`],
  ['src/embedded.ts', `import { spawn } from 'node:child_process'\nexport const start = spawn\n`],
  ['src/config.ts', `import packageJson from '../package.json' with { type: 'json' }\nexport const env = [process.env, packageJson]\n`],
  ['src/clock.ts', `export const now = () => [Date.now(), performance.now(), new Date()]\n`],
  ['src/schema/tables.ts', `export const tables = []\n`],
  [
    'bench/run.ts',
    `import { workers } from '../workers/index.ts'\nexport const stamp = new Date(0) // not new Date(), nor Date.now()\nexport const text = 'process.env' + workers\n`,
  ],
  ['client/src/index.ts', `import { setTimeout } from 'node:timers/promises'\nexport * from './wait.ts'\nexport const pause = setTimeout\n`],
  ['client/src/wait.ts', `export const begun = performance.now()\n`],
  ['test/unit/clock.test.ts', `process.exit(Number(process.env.X))\n`],
])

test('a small house in order has no breach, whatever its comments and strings say', () => {
  expect(inspect(sound)).toEqual([])
})

const line = (count: number) => 'export {}\n'.repeat(count)

/** For each rule, breaches of it: the file's new text, and where the first complaint must point. */
const planted: Record<string, { file: string; text: string; at?: number; says: string }[]> = {
  'bin → workers → src → npm': [
    { file: 'src/config.ts', text: `import { Worker } from '../workers/refresh/load.ts'\n`, says: 'imports workers/refresh/load.ts from above' },
    { file: 'src/config.ts', text: `\nexport type { Stop } from '../bin/signals.ts'\n`, at: 2, says: 'imports bin/signals.ts from above' },
    { file: 'workers/refresh/load.ts', text: `await import('../../bin/signals.ts')\n`, says: 'imports bin/signals.ts from above' },
    { file: 'bin/signals.ts', text: `import '../bench/run.ts'\n`, says: 'imports bench/run.ts from above' },
    { file: 'src/clock.ts', text: `import '../test/support/until.ts'\n`, says: 'no part of the product' },
  ],
  'a domain never imports another domain': [
    {
      file: 'workers/refresh/load.ts',
      text: `import { apply } from '../overrides/apply.ts'\n`,
      says: 'domain refresh imports workers/overrides/apply.ts; domains meet in tables and queues',
    },
    { file: 'workers/overrides/apply.ts', text: `type Load = import('../refresh/load.ts').Load\n`, says: 'domain overrides imports' },
  ],
  'each outside thing has one owner': [
    { file: 'src/worker.ts', text: `import pg from 'pg'\n`, says: 'touches pg (pg); take a Query' },
    { file: 'src/worker.ts', text: `import type pg from 'pg'\n`, says: 'touches pg' },
    { file: 'src/worker.ts', text: `export { drizzle } from 'drizzle-orm/node-postgres'\n`, says: 'touches pg' },
    { file: 'src/worker.ts', text: `import type { PgBoss } from 'pg-boss'\n`, says: 'touches pg-boss' },
    { file: 'src/claims.ts', text: `import { type Job, PgBoss } from 'pg-boss'\n`, says: 'touches pg-boss' },
    { file: 'bin/pawl.ts', text: `\nconst home = process.env.HOME\n`, at: 2, says: 'touches the environment (process.env); add the variable to src/config.ts' },
    { file: 'src/worker.ts', text: `const { env } = process\n`, says: 'touches the environment' },
    { file: 'src/worker.ts', text: `globalThis.process['env']\n`, says: 'touches the environment' },
    { file: 'src/worker.ts', text: `import { env } from 'node:process'\n`, says: 'write the global' },
    { file: 'workers/refresh/load.ts', text: `const begun = Date.now()\n`, says: "the machine's clock (Date.now); take a Clock" },
    { file: 'bench/run.ts', text: `performance.now()\n`, says: '(performance.now)' },
    { file: 'src/worker.ts', text: `const at = new Date()\n`, says: '(new Date())' },
    { file: 'src/worker.ts', text: `process.on('SIGTERM', () => {})\n`, says: "the process's signals and its end (process.on)" },
    { file: 'src/worker.ts', text: `if (1 > 2) process.exit(1)\n`, says: '(process.exit)' },
    { file: 'workers/refresh/load.ts', text: `import { spawn } from 'node:child_process'\n`, says: 'only the embedded PostgreSQL and' },
  ],
  'pure files import types and errors only': [
    { file: 'src/queues.ts', text: `import { z } from 'zod'\n`, says: 'imports zod, but this file is pure' },
    { file: 'src/queues.ts', text: `import { type A, now } from './clock.ts'\n`, says: 'imports ./clock.ts' },
  ],
  'no cycles': [
    { file: 'src/clock.ts', text: `\nimport './database.ts'\n`, says: 'imports itself by way of' },
    { file: 'src/config.ts', text: `import type { Config } from './config.ts'\n`, says: 'by way of src/config.ts' },
  ],
  'every file is reachable from bin/pawl.ts': [
    { file: 'src/forgotten.ts', text: line(1), says: 'nothing that bin/pawl.ts runs imports it' },
    { file: 'workers/refresh/forgotten.ts', text: `import '../../src/clock.ts'\n`, says: 'wire it up' },
    { file: 'bin/forgotten.ts', text: line(1), says: 'delete it' },
  ],
  'no file has more than 250 lines': [
    { file: 'src/clock.ts', text: line(251), at: 251, says: 'has 251 lines; a second noun' },
    { file: 'test/unit/clock.test.ts', text: line(300), at: 251, says: 'has 300 lines' },
  ],
  'a queue is named as its file': [
    {
      file: 'workers/refresh/load.ts',
      text: `\nexport const load: Worker = { queue: 'refresh.read' }\n`,
      at: 2,
      says: `its queue is refresh.read; write queue: 'refresh.load'`,
    },
    { file: 'workers/refresh/load.ts', text: `export const load = { queue: name } satisfies Worker\n`, says: 'not a plain text' },
    { file: 'src/queues.ts', text: `export const queues = [{ name: 'refresh.load' }]\n`, says: 'queue overrides.apply is not in src/queues.ts' },
    {
      file: 'src/queues.ts',
      text: `export const queues = [\n  { name: 'refresh.load' },\n  { name: 'overrides.apply' },\n  { name: 'a.b' },\n]\n`,
      at: 4,
      says: 'no worker in workers/a/b.ts',
    },
  ],
  'client/ stands alone': [
    { file: 'client/src/wait.ts', text: `import { now } from '../../src/clock.ts'\n`, says: 'imports src/clock.ts, but the client is published by itself' },
    { file: 'client/src/wait.ts', text: `\nimport type { Pool } from 'pg'\n`, at: 2, says: 'imports pg' },
  ],
  'every import names its module': [{ file: 'src/clock.ts', text: `\nawait import(name)\n`, at: 2, says: 'imports a computed module' }],
}

test('each rule has breaches planted to prove that it can fail', () => {
  expect(Object.keys(planted).sort()).toEqual(Object.keys(rules).sort())
})

for (const [rule, breaches] of Object.entries(planted)) {
  for (const { file, text, at, says } of breaches) {
    test(`reported: ${JSON.stringify(text.length > 90 ? `${text.length} characters` : text)} in ${file} [${rule}]`, () => {
      const found = inspect(new Map(sound).set(file, text)).filter(breach => breach.rule === rule)
      const own = found.find(breach => breach.message.includes(says))
      expect(own, JSON.stringify(found, undefined, 1)).toBeDefined()
      if (at !== undefined) expect(own).toMatchObject({ file, line: at })
    })
  }
}

test('a line at the limit is allowed: 250 lines are no breach', () => {
  expect(inspect(new Map(sound).set('test/unit/clock.test.ts', line(250)))).toEqual([])
})

test('types of pg-boss are allowed where they are needed, and errors in pure files', () => {
  const tree = new Map(sound)
    .set('src/worker.ts', `import './database.ts'\nimport './boss.ts'\nimport './claims.ts'\nimport './queues.ts'\n`)
    .set('src/claims.ts', `import type { Job } from 'pg-boss'\nexport type Claim = Job\n`)
    .set('src/errors.ts', line(1))
    .set('src/queues.ts', `import { PawlError } from './errors.ts'\nimport type { Worker } from './worker-type.ts'\n${sound.get('src/queues.ts')}`)
    .set('src/worker-type.ts', line(1))
  expect(inspect(tree)).toEqual([])
})
