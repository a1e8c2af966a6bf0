import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { compile, installClient, runProgram } from '../support/client.ts'

// What is published: compiled, with declarations, as another project would have it in its node_modules.
let installed: Awaited<ReturnType<typeof installClient>>

beforeAll(async () => {
  installed = await installClient()
})

afterAll(() => installed.remove())

test('the package runs as plain JavaScript, imports nothing but Node and itself, and needs no pg of its own', async () => {
  const dist = join(installed.folder, 'node_modules/@pawl/client/dist')
  const files = (await readdir(dist)).filter(name => name.endsWith('.js'))
  expect(files).toContain('index.js')
  for (const file of files) {
    const imported = [...(await readFile(join(dist, file), 'utf8')).matchAll(/^(?:import|export) .*from '(.*)'/gm)].map(([, from]) => from)
    expect(imported.filter(from => !/^(node:|\.\/\w+\.js$)/.test(from ?? ''))).toEqual([])
  }
  const script = `import * as client from '@pawl/client'
    const asked = []
    const pawl = client.connectPawl({ query: async (text, values) => { asked.push(text, values); return { rows: [{ answer: 'ovr_1' }] } } })
    console.log(JSON.stringify([Object.keys(client).sort(), await pawl.requestOverride({ categoryId: 3n, userId: '1' }), asked]))`
  const ran = await runProgram(process.execPath, ['--input-type=module', '--eval', script], { cwd: installed.folder })
  expect(ran).toMatchObject({ code: 0, stderr: '' })
  expect(JSON.parse(ran.stdout)).toEqual([
    ['PawlRequestError', 'PawlTimeout', 'connectPawl', 'fromDrizzle', 'hasEnded', 'refreshRunId'],
    'ovr_1',
    ['select pawl.request_override(category_id => $1::bigint, user_id => $2::bigint)::text as answer', ['3', '1']],
  ])
})

/** A consumer's code: what must compile, and after each `@ts-expect-error` what must not. */
const consumer = `
import { connectPawl, hasEnded, type EndedRun, type Pawl, type Run } from '@pawl/client'
import pg from 'pg'

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const same = <A, B>(_: Equal<A, B>) => {}

const pool = new pg.Pool()
const pawl: Pawl = connectPawl(pool)
connectPawl(new pg.Client())
connectPawl(await pool.connect())
connectPawl({ query: async () => [{ answer: 'rows by themselves' }] })
// @ts-expect-error
connectPawl({ execute: async () => [] })

for (const categoryId of [1, 2n, '3']) await pawl.requestOverride({ categoryId, userId: 1 })
interface Settings { channel: string }
const settings: Settings = { channel: 'sms' }
await pawl.requestOverride({ categoryId: 1, userId: 1, settings, batchSize: undefined })
// @ts-expect-error
await pawl.requestOverride({ categoryId: 1 })
// @ts-expect-error
await pawl.requestOverride({ categoryId: 1, userId: 1, batch_size: 5 })
// @ts-expect-error
await pawl.requestOverride({ categoryId: 1, userId: 1, settings: 'text' })
// @ts-expect-error
await pawl.scheduleTimer({ campaignId: '', timerType: 'STOP_CAMPAIGN', at: new Date() })
// @ts-expect-error
await pawl.refreshTable({ name: 'x', upstream: 'some' })
// @ts-expect-error
await pawl.runReport({ reportId: '', executedBy: '', outputFormat: 'docx' })
// @ts-expect-error
await pawl.wait('ovr_1', {})
// @ts-expect-error
await pawl.wait('ovr_1')

same<Awaited<ReturnType<Pawl['refreshTable']>>, string>(true)
same<Awaited<ReturnType<Pawl['enqueue']>>, string | null>(true)
same<Awaited<ReturnType<Pawl['run']>>, Run | undefined>(true)
const run = await pawl.wait('ovr_1', { timeoutMs: 1, signal: new AbortController().signal })
same<typeof run, EndedRun>(true)
same<typeof run.finishedAt, Date>(true)
// @ts-expect-error
same<typeof run.finishedAt, string>(true)
same<typeof run.state, 'completed' | 'failed' | 'cancelled'>(true)
if (run.state === 'completed') same<typeof run.error, null>(true)
declare const any: Run
if (hasEnded(any)) same<typeof any.finishedAt, Date>(true)
export {}
`

test('its declarations hold for a strict consumer, and let through nothing that the database would refuse by type', async () => {
  const file = join(installed.folder, 'consumer.ts')
  await writeFile(file, consumer)
  await writeFile(join(installed.folder, 'package.json'), '{ "type": "module" }')
  const compilerOptions = { noEmit: true, strict: true, exactOptionalPropertyTypes: true, module: 'nodenext', target: 'es2023', types: ['node'] }
  await writeFile(join(installed.folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['consumer.ts'] }))
  expect(compile(['-p', installed.folder])).toMatchObject({ status: 0, stdout: '' })
})
