import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, inject, onTestFinished, test, vi } from 'vitest'
import { commands } from '../../bin/commands/index.ts'
import { run } from '../../bin/run.ts'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { loadOverrideSample } from '../../workers/overrides/sample.ts'
import { loadReportSample } from '../../workers/reports/sample.ts'
import { ask } from '../support/embedded.ts'
import { createDatabase } from '../support/postgres.ts'
import { startWorker } from '../support/process.ts'
import { inCopy, interrupted, newKey, newName, openStage, shell, writers } from './cli-stage.ts'
import { flip, scratches } from './restore-stage.ts'

/** Each command is a process of its own, and a restore has many. */
const PATIENCE_MS = 300_000
vi.setConfig({ testTimeout: PATIENCE_MS })

test('pawl backup && pawl restore --into … --verify, in one line, on the sample data, while writers run', async () => {
  const stage = await openStage()
  await loadOverrideSample(stage.db)
  await loadReportSample(stage.db)
  const into = newName()
  const stop = writers(stage.db)
  const { code, stdout, stderr } = await shell(stage, `pawl backup && pawl restore --into ${into} --verify`)
  expect(await stop()).toBeGreaterThan(10)
  expect([code, stderr], stderr).toEqual([
    0,
    expect.stringMatching(/^dumped .*\ntaken .*\nrestored .*\ncompared .*\nrestoring .*, verified .*\nrestored .*\ncompared .*\n$/),
  ])
  expect(stdout).toMatch(
    new RegExp(`verified by a restore in [\\d.]+ s\\n[^]*${into}: \\d+ tables, \\d{5,} rows, all of them equal\\n[^]*every queue in it is paused`),
  )
  // Where it was taken, and not where the writers went on to.
  const [name = ''] = (await stage.files()).filter(file => file.endsWith('.manifest.json'))
  const manifest = JSON.parse(await readFile(join(stage.place, name), 'utf8')) as { tables: { schema: string; name: string; rows: number }[] }
  for (const table of ['recipients', 'categories']) {
    const [row] = await inCopy<{ count: number }>(into, `select count(*)::int as count from public.${table}`)
    expect(row?.count).toBe(manifest.tables.find(one => one.schema === 'public' && one.name === table)?.rows)
  }
  expect(await inCopy(into, `select count(*)::int as count, min(reason) as reason from pawl.paused_queues`)).toEqual([
    { count: expect.any(Number), reason: `restored from ${name.replace('.manifest.json', '')}` },
  ])
  expect(await stage.db.query('select state, kind, scope, encrypted, error from pawl.backups')).toEqual([
    { state: 'verified', kind: 'manual', scope: 'full', encrypted: false, error: null },
  ])
  expect(await scratches()).toEqual([])
})

test('encrypted to keys of age-keygen: stock tools restore it without Pawl, and no other key opens it', async () => {
  const stage = await openStage()
  await loadReportSample(stage.db)
  const keys = await mkdtemp(join(tmpdir(), 'pawl-keys-'))
  onTestFinished(() => rm(keys, { recursive: true, force: true }))
  const [right, wrong] = [await newKey(keys, 'right.txt'), await newKey(keys, 'wrong.txt')]
  const sealed = { PAWL_BACKUP_RECIPIENTS: right.recipient }
  const taken = await stage.json(['backup', '--kind', 'daily'], sealed)
  expect(taken).toMatchObject({ code: 0, backup: expect.stringContaining('-daily-'), verified_at: expect.any(String) })
  const name = String(taken.backup)
  expect(await stage.files()).toEqual([`${name}.dump.zst.age`, `${name}.manifest.json`, `${name}.roles.zst.age`, `${name}.verified.json`])

  const other = await createDatabase({ empty: true })
  onTestFinished(() => other.drop())
  const stock = await shell(stage, `age -d -i ${right.file} ${stage.place}/${name}.dump.zst.age | zstd -dc | pg_restore --exit-on-error -d '${other.url}'`)
  expect([stock.code, stock.stderr]).toEqual([0, ''])
  const count = 'select count(*)::int as reports, (select count(*)::int from reporting.users) as users from reporting.reports'
  expect(await other.query(count)).toEqual(await stage.db.query(count))

  const into = newName()
  expect(await stage.json(['restore', '--into', into])).toMatchObject({ code: 2, error: { code: 'seal.key', hint: expect.stringContaining('--identity') } })
  expect(await stage.json(['restore', '--into', into, '--identity', wrong.file])).toMatchObject({ code: 2, error: { code: 'seal.key' } })
  expect(await stage.json(['restore', '--into', into, '--identity', join(keys, 'none.txt')])).toMatchObject({ code: 2, error: { code: 'seal.identity' } })
  // Nothing is known of a backup that the key at hand does not open.
  for (const words of [[], ['--identity', wrong.file], ['--identity', join(keys, 'none.txt')]]) {
    expect(await stage.json(['backups', '--verify', 'latest', ...words])).toMatchObject({ code: 4, error: { code: 'backup.unverifiable' } })
  }
  expect(await stage.json(['backups', '--verify', name], { PAWL_BACKUP_IDENTITY: right.file })).toMatchObject({ code: 0, name })
  await chmod(right.file, 0o644)
  const { code, stdout, stderr } = await stage.pawl(['restore', '--into', into, '--identity', right.file, '--verify'])
  expect([code, stdout], stderr).toEqual([0, expect.stringContaining('all of them equal')])
  expect(stderr).toContain(`warning: others can read the private key in ${right.file}; chmod 600`)
  expect(await inCopy(into, count)).toEqual(await stage.db.query(count))
  expect(await scratches()).toEqual([])
})

test('a database that Pawl never saw is backed up, restored, and restored again when it is gone', async () => {
  const stage = await openStage({ empty: true })
  await stage.db.query(`create table notes (id serial primary key, text text); insert into notes (text) select md5(i::text) from generate_series(1, 1000) i`)
  const taken = await stage.json(['backup'])
  expect(taken).toMatchObject({ code: 0, tables: 1, rows: 1000 })
  await ask(inject('adminUrl'), `drop database ${new URL(stage.db.url).pathname.slice(1)} with (force)`)
  const into = newName()
  const env = { BACKUP_DIR: '' }
  expect(await stage.json(['restore', '--into', into], env)).toMatchObject({ code: 2, error: { code: 'backup.place_unset' } })
  const { code, stdout, stderr } = await stage.pawl(['restore', 'latest', '--into', into, '--from', stage.place, '--verify'], env)
  expect([code, stdout], stderr).toEqual([0, expect.stringContaining(`${into}: 1 tables, 1000 rows, all of them equal`)])
  expect(stdout).not.toContain('paused')
  expect(await inCopy(into, `select count(*)::int as count, (select last_value::int from notes_id_seq) as id from notes`)).toEqual([{ count: 1000, id: 1000 }])
  expect(await stage.json(['restore', String(taken.backup), '--into', into, '--from', stage.place], env)).toMatchObject({
    code: 2,
    error: { code: 'restore.exists' },
  })
})

test('parts are taken, listed and named; what retention would do is told, and done when asked', async () => {
  const stage = await openStage()
  const whole = String((await stage.json(['backup', '--kind', 'weekly'])).backup)
  const structure = String((await stage.json(['backup', '--schema-only'])).backup)
  const some = String((await stage.json(['backup', '--tables', 'public.campaigns, public.categories', '--no-verify'])).backup)
  const listed = (await stage.json(['backups'])) as unknown as { backups: Record<string, unknown>[] }
  expect(listed.backups.map(({ name, state, kind, scope }) => [name, state, kind, scope])).toEqual([
    [some, 'unverified', 'manual', 'tables'],
    [structure, 'verified', 'manual', 'schema'],
    [whole, 'verified', 'weekly', 'full'],
  ])
  await writeFile(join(stage.place, `${some.slice(0, -8)}00000000.dump.zst`), 'left behind')
  const { stdout } = await stage.pawl(['backups'])
  expect(stdout).toMatch(new RegExp(`^state +name +kind +taken +bytes +rows +age\\nunverified +${some} +manual, tables +\\S+ +\\d+ +0 +0 min\\n`))
  expect(stdout).toMatch(/\nunfinished +\S+-00000000 +0 min\n$/)

  // Retention knows no mercy with the structure alone: make its days be over.
  const manifest = join(stage.place, `${structure}.manifest.json`)
  await writeFile(manifest, (await readFile(manifest, 'utf8')).replace(/"takenAt": "[^"]+"/, '"takenAt": "2020-01-01T00:00:00.000Z"'))
  const dry = await stage.pawl(['backups', '--prune'])
  expect([dry.code, dry.stderr]).toEqual([0, 'nothing was deleted; --apply would delete 2\n'])
  expect(dry.stdout).toMatch(new RegExp(`keep +${whole} +newest verified, daily 1 of 7, weekly 1 of 4, monthly 1 of 12, younger than 30 days\\n`))
  expect(dry.stdout).toMatch(new RegExp(`delete +${structure} +the structure alone, 30 days old or older\\n`))
  expect(dry.stdout).toMatch(/delete +\S+-00000000 +abandoned/)
  expect(await stage.files()).toHaveLength(11)
  expect(await stage.json(['backups', '--prune', '--apply'])).toMatchObject({
    code: 0,
    applied: true,
    removed: [structure, expect.stringContaining('-00000000')],
    busy: [],
  })
  expect((await stage.files()).filter(file => file.includes(structure) || file.includes('-00000000'))).toEqual([])
  expect(await stage.db.query('select backup_id from pawl.backups where state = $1', ['deleted'])).toEqual([{ backup_id: structure }])
  const into = newName()
  expect(await stage.json(['restore', some, '--into', into, '--verify'])).toMatchObject({ code: 0, backup: some, verified: true })
})

test('a damaged backup is a difference, and one that can not be looked at is not', async () => {
  const stage = await openStage()
  const name = String((await stage.json(['backup'])).backup)
  await flip(join(stage.place, `${name}.dump.zst`), length => length >> 1)
  const into = newName()
  expect(await stage.json(['backups', '--verify', 'latest'])).toMatchObject({ code: 3, error: { code: 'backup.damaged' } })
  expect(await stage.json(['restore', '--into', into])).toMatchObject({ code: 3, error: { code: 'backup.damaged' } })
  expect(await ask(inject('adminUrl'), `select from pg_database where datname = '${into}'`)).toEqual([])
  await rm(join(stage.place, `${name}.dump.zst`))
  expect(await stage.json(['restore', name, '--into', into])).toMatchObject({ code: 3, error: { code: 'backup.broken' } })
  const { stdout, stderr } = await stage.pawl(['backups'])
  expect(stdout).toMatch(new RegExp(`^state .*\\nbroken +${name}\\n$`))
  expect(stderr).toContain(`${name}: ${name}.dump.zst is missing`)

  // Whoever may read everything and create no database can take one, and not prove it.
  const login = `pawl_reader_${Math.random().toString(36).slice(2, 10)}`
  await stage.db.query(`create role ${login} login password 'pw'; grant pg_read_all_data to ${login}`)
  onTestFinished(() => ask(inject('adminUrl'), `drop role ${login}`).then(() => {}))
  const asReader = { DATABASE_URL: stage.db.urlAs(login, 'pw') }
  expect(await stage.json(['backup'], asReader)).toMatchObject({ code: 4, error: { code: 'backup.unverifiable', hint: expect.stringContaining('createdb') } })
  const listed = (await stage.json(['backups'])) as unknown as { backups: unknown[] }
  expect(listed.backups).toMatchObject([{ state: 'unverified' }])
  expect(await stage.json(['backups', '--verify', 'latest'])).toMatchObject({ code: 0 })
})

/** The command in this process: what it answers before it has begun anything. */
async function inProcess(words: string[], env: Record<string, string>) {
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value)
  const spies = [vi.spyOn(process.stdout, 'write'), vi.spyOn(process.stderr, 'write')]
  for (const spy of spies) spy.mockImplementation(() => true)
  try {
    const code = await run(commands, words)
    const [stdout, stderr] = spies.map(spy => spy.mock.calls.map(([text]) => String(text)).join(''))
    return { code, stdout, stderr }
  } finally {
    for (const spy of spies) spy.mockRestore()
    vi.unstubAllEnvs()
  }
}

test('what can not be done is refused before anything is touched', async () => {
  const stage = await openStage()
  const refused = async (words: string[], says: RegExp, env: Record<string, string> = {}) => {
    const { code, stdout, stderr } = await inProcess(words, { DATABASE_URL: stage.db.url, ...stage.env, ...env })
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toMatch(says)
  }
  await refused(['backup', '--kind', 'hourly'], /--kind must be daily, weekly, manual or pre_migration, not "hourly".*\n {2}next: usage/)
  await refused(['backup', '--schema-only', '--tables', 'x'], /exclude each other/)
  await refused(['backup', '--tables', ' , '], /--tables needs a value: TABLES/)
  await refused(['backup', '--queue', '--no-verify'], /a worker verifies every backup/)
  await refused(['backup'], /no place for backups is named.*\n {2}next: set BACKUP_DIR/, { BACKUP_DIR: '' })
  await refused(['restore', 'latest'], /--into is missing/)
  await refused(['restore', '--into', 'x'], /no full backup is verified \(backup\.unknown\)/)
  for (const words of [['backups'], ['restore', '--into', 'x']])
    await refused([...words, '--from', '/no/such/place'], /there is no directory \/no\/such\/place \(store\.place\)\n {2}next: name/)
  await refused(['backups', '--apply'], /--apply goes with --prune/)
  await refused(['backups', '--prune', '--verify', 'latest'], /exclude each other/)
  expect(await stage.json(['backup', '--tables', 'public.no_such'])).toMatchObject({
    code: 2,
    error: { message: expect.stringContaining('there is no table public.no_such') },
  })
  expect(await stage.json(['backup'], { PAWL_PG_BIN: '/nowhere' })).toMatchObject({ code: 2, error: { code: expect.stringMatching(/^tools\./) } })
  expect(await stage.files()).toEqual([])
})

test('Ctrl-C breaks off a dump and a verification, and leaves neither files nor scratch databases', async () => {
  const stage = await openStage()
  await loadOverrideSample(stage.db)
  // A migration stands in the way: the backup waits for a moment at which all can be read.
  const blocker = await connectDirect(readConfig({ DATABASE_URL: stage.db.url }), 'blocker')
  await blocker.query('begin; lock table public.recipients in access exclusive mode')
  const isWaiting = async () =>
    (await stage.db.query(`select from pg_stat_activity where application_name = 'pawl backup' and state = 'active' and query ~ '^lock table'`)).length > 0
  const dump = await interrupted(stage, ['backup'], { when: isWaiting })
  await blocker.close()
  expect(dump.code).toBe(1)
  expect(dump.stderr).toMatch(/error: broken off by SIGINT \(interrupted\)\n {2}next: what was under way has taken itself back$/)
  expect(await stage.files()).toEqual([])

  const verification = await interrupted(stage, ['backup'], { word: 'taken' })
  expect(verification.code).toBe(1)
  expect(verification.stderr).toContain('broken off by SIGINT')
  expect(await scratches()).toEqual([])
  expect((await stage.files()).map(file => file.replace(/^.*?\./, ''))).toEqual(['dump.zst', 'manifest.json', 'roles.zst'])
  expect(await stage.db.query('select state, error from pawl.backups')).toEqual([{ state: 'unverified', error: null }])
})

test('a worker takes one when asked, and the command follows it', async () => {
  const stage = await openStage()
  const worker = await startWorker(stage.db.url, { env: stage.env })
  onTestFinished(async () => {
    worker.signal('SIGTERM')
    await worker.exited
  })
  const asked = await stage.json(['backup', '--queue', '--kind', 'weekly'])
  expect(asked).toMatchObject({ code: 0, well: true, run_id: expect.stringMatching(/^backup_\d+$/), backup: expect.stringContaining('-weekly-') })
  expect(await stage.files()).toContain(`${String(asked.backup)}.verified.json`)
})
