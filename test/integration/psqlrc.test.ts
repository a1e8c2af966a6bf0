import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { requestOverride, seedCategory } from '../support/overrides.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { postgres15Bin } from '../support/postgres15.ts'

const psqlrc = fileURLToPath(new URL('../../deploy/psqlrc', import.meta.url))
const run = promisify(execFile)

/** Debian's psql; whatever version, it is the shortcuts that are tried. In CI nothing is left out. */
const psql = `${postgres15Bin}/psql`
const missing = !existsSync(psql) && process.env.CI === undefined
if (missing) console.warn('SKIPPED: the shortcuts of deploy/psqlrc in a real psql. Install it to run them: apt-get install postgresql-client-15')

let db: TestDatabase
let runId: string
let names: string[]

beforeAll(async () => {
  db = await createDatabase()
  runId = await requestOverride(db.query, await seedCategory(db.query, 5))
  names = [...(await readFile(psqlrc, 'utf8')).matchAll(/^\\set (\w+) '/gm)].map(([, name]) => name ?? '')
})

afterAll(() => db.drop())

/** What psql prints for these lines, typed after the file was loaded. */
async function type(...lines: string[]): Promise<string> {
  const child = run(psql, ['-X', '-A', '-t', '-v', 'ON_ERROR_STOP=1', db.url], { timeout: 30_000 })
  child.child.stdin?.end([`\\i '${psqlrc}'`, ...lines, ''].join('\n'))
  return (await child).stdout
}

describe.skipIf(missing)('deploy/psqlrc in psql', () => {
  test('loads without a word but where to find its list, and the list names every shortcut there is', async () => {
    expect((await type()).trim()).toBe(`Pawl: :pawl lists the shortcuts, such as :runs, :stuck, :bad and :why('ID');`)
    const listed = [...(await type(':pawl')).matchAll(/^:(\w+)/gm)].map(([, name]) => name)
    expect(listed.toSorted()).toEqual(names.filter(name => name !== 'pawl').toSorted())
  })

  test('each shortcut runs', async () => {
    const calls = ['why', 'retry', 'cancel', 'pause', 'resume']
    const plain = names.filter(name => !calls.includes(name))
    expect(plain.length).toBeGreaterThan(20)
    const printed = await type(...plain.flatMap(name => [`\\echo begin ${name}`, `:${name}`]), '\\echo all of them')
    for (const name of plain) expect(printed).toContain(`begin ${name}\n`)
    expect(printed).toContain('all of them')
    expect(await type(':runs')).toContain(runId)
    expect(await type(':active')).toContain(runId)
  })

  test('and those that take an id or a queue do what they say', async () => {
    expect(await type(`:why('${runId}');`)).toMatch(/^Waiting: no worker is running for queue overrides\.apply/m)
    expect(await type(`:pause('overrides.apply', 'a test');`, `:why('${runId}');`, `:resume('overrides.apply');`)).toMatch(
      /t\nWaiting: queue overrides\.apply was paused by .*\(a test\).*\nt\n/,
    )
    expect(await type(`:cancel('${runId}', 'a test');`, ':cancelled', `:retry('${runId}');`)).toMatch(
      new RegExp(`^t\\n${runId}\\|override\\|.*\\|a test\\nt\\n$`, 'm'),
    )
  })
})
