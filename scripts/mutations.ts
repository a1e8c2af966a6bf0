import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { upgrade } from '../bin/commands/migrate.ts'
import { table } from '../bin/table.ts'
import { readConfig } from '../src/config.ts'
import { openDatabase } from '../src/database.ts'
import { startEmbedded } from '../src/embedded.ts'
import { openLog } from '../src/log.ts'
import { type Mutant, rotten } from '../test/mutations/mutant.ts'
import { mutants } from '../test/mutations/mutants.ts'
import { configOf, openSandbox, type Sandbox } from '../test/mutations/sandbox.ts'
import { type Verdict, verdictOf } from '../test/mutations/verdict.ts'

// `npm run test:mutations [-- --only WORDS] [--quick] [--jobs N] [--json FILE] [--list]`: plants one bug after another in a copy of the source and
// shows which test notices. Exits 1 when one is not noticed: then a test is missing.
const root = fileURLToPath(new URL('..', import.meta.url))
const { values } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    quick: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    jobs: { type: 'string', default: '2' },
    json: { type: 'string' },
    trusting: { type: 'boolean', default: false },
  },
})

type Line = Verdict & { mutant: string; file: string; seconds: number }

const chosen = mutants.filter(
  ({ name, quick }) => (values.only === undefined || values.only.some(words => name.includes(words))) && (!values.quick || quick === true),
)
const faults = rotten(mutants, file => readFileSync(join(root, file), 'utf8'))
if (values.list) console.info(table(chosen.map(({ name, changes, why }) => ({ mutant: name, file: changes[0]?.file, why }))))
else if (faults.length > 0 || chosen.length === 0) {
  console.error(faults.length > 0 ? faults.join('\n') : 'no mutant of that name; --list shows them')
  process.exitCode = 2
} else process.exitCode = await plantAll()

async function plantAll(): Promise<number> {
  const log = openLog({ level: 'silent' })
  const server = await startEmbedded({ log, ephemeral: true, settings: { max_connections: '300', shared_buffers: '128MB' } })
  const sandboxes: Sandbox[] = []
  try {
    const template = await makeTemplate(server.url, log)
    const environment = { PAWL_TEST_DATABASE_URL: server.url, PAWL_TEST_TEMPLATE: template }
    for (let job = 0; job < Math.max(1, Number(values.jobs)); job += 1) sandboxes.push(await openSandbox(root))
    if (!values.trusting) await passUnharmed(sandboxes[0], environment)
    const waiting = [...chosen]
    const lines: Line[] = []
    await Promise.all(sandboxes.map(sandbox => workOff(sandbox, waiting, environment, lines)))
    return report(lines)
  } finally {
    for (const sandbox of sandboxes) await sandbox.remove()
    await server.stop()
  }
}

/** Most mutants leave the schema as it is: their tests clone this one, and need not make their own. */
async function makeTemplate(url: string, log: ReturnType<typeof openLog>): Promise<string> {
  const name = 'pawl_template_unharmed'
  const admin = openDatabase(readConfig({ DATABASE_URL: url }), log, { max: 1 })
  await admin.query(`create database ${name}`)
  await admin.close()
  const own = new URL(url)
  own.pathname = `/${name}`
  await upgrade(readConfig({ DATABASE_URL: own.href }), log)
  return name
}

/** A test that fails without any bug would catch all of them. */
async function passUnharmed(sandbox: Sandbox | undefined, environment: Record<string, string>): Promise<void> {
  const kinds = Map.groupBy(new Set(chosen.flatMap(mutant => mutant.tests)), file => configOf([file]))
  for (const files of kinds.values()) {
    const begun = performance.now()
    const tested = await sandbox?.test(files, { environment, isPatient: true })
    const verdict = verdictOf(tested?.report, tested?.isTimedOut ?? false, tested?.words ?? '')
    if (verdict.outcome !== 'survived') throw new Error(`without any bug: ${verdict.by}: ${verdict.how}`)
    console.info(`unharmed: ${verdict.how}, ${files.length} files, ${seconds(begun)} s`)
  }
}

async function workOff(sandbox: Sandbox, waiting: Mutant[], environment: Record<string, string>, lines: Line[]): Promise<void> {
  for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
    const begun = performance.now()
    await sandbox.plant(mutant)
    const changesSchema = mutant.changes.some(({ file }) => file.startsWith('drizzle/'))
    const { PAWL_TEST_TEMPLATE: _, ...bare } = environment
    const tested = await sandbox.test(mutant.tests, { environment: changesSchema ? bare : environment, isPatient: false })
    await sandbox.heal(mutant)
    const line = {
      mutant: mutant.name,
      file: mutant.changes[0]?.file ?? '',
      ...verdictOf(tested.report, tested.isTimedOut, tested.words),
      seconds: seconds(begun),
    }
    lines.push(line)
    console.info(`${line.outcome.padEnd(8)}  ${line.mutant}  (${line.seconds} s)  ${line.by}`)
  }
}

function report(lines: readonly Line[]): number {
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(lines, undefined, 2)}\n`)
  console.info(`\n${table(lines.map(({ mutant, file, outcome, by, seconds: took }) => ({ mutant, file, outcome, caught_by: by, seconds: took })))}\n`)
  const caught = lines.filter(({ outcome }) => outcome === 'caught').length
  for (const { mutant, outcome, how } of lines) if (outcome !== 'caught') console.error(`${outcome}: ${mutant}: ${how}`)
  console.info(`${caught} of ${lines.length} caught`)
  return caught === lines.length ? 0 : 1
}

function seconds(begun: number): number {
  return Math.round((performance.now() - begun) / 100) / 10
}
