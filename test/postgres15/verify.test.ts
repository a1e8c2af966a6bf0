import { spawnSync } from 'node:child_process'
import { copyFile, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, inject, onTestFinished, test } from 'vitest'
import { newIdentity } from '../../src/seal.ts'
import { listBackups } from '../../workers/maintenance/backups/catalog.ts'
import type { Manifest, Stored } from '../../workers/maintenance/backups/manifest.ts'
import { verifyBackup } from '../../workers/maintenance/backups/verify.ts'
import { ask } from '../support/embedded.ts'
import { postgres15Bin } from '../support/postgres15.ts'
import { addGoods, flip, found, openRestoreStage, type RestoreStage, scratches } from './restore-stage.ts'

const { identity, recipient } = await newIdentity()

/** What the verification of the stage's backup throws, or undefined; no scratch database may be left and no proof. */
async function refusal(stage: RestoreStage, stored: Stored, identities: string[]): Promise<{ code: string; message: string } | undefined> {
  const error = await verifyBackup(stage.context(), stage.store, stored, identities).then(
    () => undefined,
    (thrown: { code: string; message: string }) => thrown,
  )
  expect(await scratches()).toEqual([])
  expect((await stage.files()).filter(name => name.endsWith('.verified.json'))).toHaveLength(error === undefined ? 1 : 0)
  return error
}

test('a backup of the whole project is verified: tables, sequences, partitions, indexes and routines are all there again', async () => {
  const stage = await openRestoreStage()
  await addGoods(stage.query)
  const { stored, identities } = await stage.take()
  const told: string[] = []
  const verification = await verifyBackup(
    stage.context({ told: ({ step, done, total }) => told.push(`${step} ${done}/${total}`) }),
    stage.store,
    stored,
    identities,
  )
  const total = stored.manifest.tables.length
  expect(total).toBeGreaterThan(40)
  expect(told).toEqual(expect.arrayContaining([`restore ${total}/${total}`, `compare 0/${total}`, `compare ${total}/${total}`]))
  expect(verification).toMatchObject({ format: 1, name: stored.manifest.name, manifestSha256: stored.manifestSha256, server: expect.stringMatching(/^15\./) })
  expect(stored.manifest.objects?.find(counts => counts.schema === 'shop')).toMatchObject({ routines: 1, views: 2 })
  expect((await found(stage)).verification).toEqual(verification)
  expect(await scratches()).toEqual([])
})

test.each([
  { scope: 'schema' as const, tables: undefined },
  { scope: 'tables' as const, tables: ['shop.orders_2026_01', 'shop.twice'] },
])('a backup of scope $scope is verified for what it holds', async ({ scope, tables }) => {
  const stage = await openRestoreStage({ empty: true })
  await addGoods(stage.query)
  const { stored, identities } = await stage.take({ scope, ...(tables === undefined ? {} : { tables }) })
  expect(await refusal(stage, stored, identities)).toBeUndefined()
})

const third = (length: number) => Math.floor(length / 3)
const damages: { how: string; codes: string[]; harm: (dump: string, stage: RestoreStage) => Promise<void> }[] = [
  { how: 'one bit of its first byte', codes: ['backup.damaged'], harm: dump => flip(dump, () => 0) },
  { how: 'one byte of its header', codes: ['backup.damaged'], harm: dump => flip(dump, () => 60) },
  { how: 'one byte in the middle', codes: ['backup.damaged'], harm: dump => flip(dump, third) },
  { how: 'its last byte', codes: ['backup.damaged'], harm: dump => flip(dump, length => length - 1) },
  { how: 'its end cut off', codes: ['backup.damaged'], harm: async dump => truncate(dump, third((await readFile(dump)).length)) },
  { how: 'everything cut off', codes: ['backup.damaged'], harm: dump => truncate(dump, 0) },
  { how: 'bytes added', codes: ['backup.damaged'], harm: dump => writeFile(dump, 'more', { flag: 'a' }) },
  { how: 'its file missing', codes: ['store.file_missing'], harm: dump => rm(dump) },
  {
    how: 'the file of another, sound backup in its place',
    codes: ['backup.damaged'],
    async harm(dump, stage) {
      // Two dumps of the same rows within one second are the same bytes.
      await stage.query('create table shop.later (id integer)')
      const other = await stage.take()
      await copyFile(join(stage.place, other.stored.manifest.files.dump.key), dump)
    },
  },
]

for (const sealing of ['encrypted', 'plain'] as const) {
  test.each(damages)(`of an ${sealing === 'plain' ? 'open, uncompressed' : 'encrypted, compressed'} backup is noticed: $how`, async ({ codes, harm }) => {
    const env = sealing === 'plain' ? { BACKUP_COMPRESSION: 'none' } : { PAWL_BACKUP_RECIPIENTS: recipient }
    const stage = await openRestoreStage({ empty: true, env })
    await addGoods(stage.query)
    const { stored, identities } = await stage.take()
    await harm(join(stage.place, stored.manifest.files.dump.key), stage)
    const error = await refusal(stage, stored, [...identities])
    expect(codes).toContain(error?.code)
    expect(error?.message).toContain(stored.manifest.files.dump.key)
  })
}

test('a wrong key says so, and no key as well', async () => {
  const stage = await openRestoreStage({ empty: true, env: { PAWL_BACKUP_RECIPIENTS: recipient } })
  await addGoods(stage.query)
  const { stored } = await stage.take()
  expect(await refusal(stage, stored, [(await newIdentity()).identity])).toMatchObject({ code: 'seal.key' })
  expect(await refusal(stage, stored, [])).toMatchObject({ code: 'seal.key' })
  expect(await refusal(stage, stored, [identity])).toBeUndefined()
})

test('a manifest that was exchanged for another backup’s, or edited, is noticed when it is read and when it was read before', async () => {
  const stage = await openRestoreStage({ empty: true })
  await addGoods(stage.query)
  const first = await stage.take()
  await stage.query('delete from shop.orders where pieces = 1')
  const second = await stage.take()
  const place = join(stage.place, `${first.stored.manifest.name}.manifest.json`)
  const original = await readFile(place)
  await copyFile(join(stage.place, `${second.stored.manifest.name}.manifest.json`), place)
  expect(await refusal(stage, first.stored, first.identities)).toMatchObject({ code: 'backup.broken' })
  expect((await listBackups(stage.store)).broken).toEqual([{ name: first.stored.manifest.name, reason: expect.stringContaining(second.stored.manifest.name) }])

  const edit = async (change: (manifest: Manifest) => void) => {
    const manifest = JSON.parse(original.toString()) as Manifest
    change(manifest)
    await writeFile(place, JSON.stringify(manifest))
    const { backups } = await listBackups(stage.store)
    return backups.find(backup => backup.manifest.name === manifest.name)
  }
  // Under its own name, it speaks of the other's file: so it is no backup.
  expect(await edit(manifest => Object.assign(manifest.files.dump, second.stored.manifest.files.dump))).toBeUndefined()
  // Nobody changes numbers in a manifest without its proof being void, and a new proof failing.
  const goods = (manifest: Manifest) => manifest.tables.find(table => table.name === 'goods')
  for (const [change, says] of [
    [(manifest: Manifest) => Object.assign(goods(manifest) ?? {}, { rows: 2999 }), 'shop.goods has 3000 rows, and not 2999'],
    [(manifest: Manifest) => Object.assign(goods(manifest) ?? {}, { hash: '1' }), 'shop.goods has 3000 rows, and their content differs'],
    [(manifest: Manifest) => manifest.tables.push({ schema: 'shop', name: 'gone', rows: 0, hash: '0' }), 'shop.gone is missing'],
    [(manifest: Manifest) => manifest.tables.pop(), 'is not in the manifest'],
    [
      (manifest: Manifest) => Object.assign(manifest.sequences[0] ?? {}, { value: '999999' }),
      'the sequence shop.goods_id_seq stands at 3000, and stood at 999999',
    ],
    [(manifest: Manifest) => Object.assign(manifest.objects?.find(counts => counts.schema === 'shop') ?? {}, { indexes: 99 }), 'indexes, and not 99'],
  ] as const) {
    const edited = await edit(change)
    if (edited === undefined) throw new Error('the edited manifest can not be read')
    expect(await refusal(stage, first.stored, first.identities)).toMatchObject({ code: 'backup.broken' })
    expect(await refusal(stage, edited, first.identities)).toMatchObject({ code: 'backup.different', message: expect.stringContaining(says) })
  }
})

test('a copy that differs by one row, be the number of its rows right, is not verified', async () => {
  const stage = await openRestoreStage({ empty: true })
  await addGoods(stage.query)
  const { stored, identities } = await stage.take()
  const change = (statement: string) => {
    // Told before the first table is read; the copy is changed while we stand still.
    const told = ({ step, done }: { step: string; done: number }) => {
      if (step !== 'compare' || done > 0) return
      const [password, sql] = [new URL(inject('adminUrl')).password, `select datname from pg_database where datname like 'pawl\\_scratch\\_%'`]
      const psql = (url: string, text: string) =>
        spawnSync(join(postgres15Bin, 'psql'), ['-XAtq', '-v', 'ON_ERROR_STOP=1', '-c', text, url], { encoding: 'utf8', env: { PGPASSWORD: password } })
      const copy = new URL(inject('adminUrl'))
      copy.pathname = `/${psql(copy.href, sql).stdout.trim()}`
      const made = psql(copy.href, statement)
      if (made.status !== 0) throw new Error(made.stderr)
    }
    return verifyBackup(stage.context({ told }), stage.store, stored, identities)
  }
  for (const [statement, says] of [
    [
      'delete from shop.goods where id = 77 and not exists (select from shop.orders where good = 77); delete from shop.twice where ctid = (select min(ctid) from shop.twice)',
      'shop.twice has 99 rows, and not 100',
    ],
    [`update shop.goods set weight = weight + 1e-9 where id = 1`, 'shop.goods has 3000 rows, and their content differs'],
    ['update shop.twice set value = 1 - value where ctid = (select min(ctid) from shop.twice)', 'shop.twice has 100 rows, and their content differs'],
    ['drop index shop.orders_good', 'the schema shop has'],
  ] as const) {
    await expect(change(statement)).rejects.toMatchObject({ code: 'backup.different', message: expect.stringContaining(says) })
    expect(await scratches()).toEqual([])
  }
})

test('where it can not be found out, that is said, and nothing passes for verified', async () => {
  const stage = await openRestoreStage({ empty: true })
  await addGoods(stage.query)
  const { stored, identities } = await stage.take()
  const login = `plain_${Math.random().toString(36).slice(2, 10)}`
  await stage.query(`create role ${login} login password 'plain'`)
  onTestFinished(async () => void (await ask(inject('adminUrl'), `drop role ${login}`)))
  const scratchUrl = (changes: object) => ({ PAWL_SCRATCH_URL: Object.assign(new URL(inject('adminUrl')), changes).href })
  const verify = (env: Record<string, string>) => verifyBackup(stage.context({}, env), stage.store, stored, identities)
  const cases: [Record<string, string>, RegExp][] = [
    [scratchUrl({ username: login, password: 'plain' }), /permission denied to create database/],
    [scratchUrl({ username: login, password: 'wrong' }), /password authentication failed/],
    [scratchUrl({ port: '1' }), /ECONNREFUSED/],
    [{ PAWL_PG_BIN: '/nowhere' }, /pg_dump of PostgreSQL 15 is not in \/nowhere/],
  ]
  for (const [env, message] of cases) {
    await expect(verify(env)).rejects.toMatchObject({ code: 'backup.unverifiable', message: expect.stringMatching(message) })
    expect(await scratches()).toEqual([])
  }
  expect((await found(stage)).verification).toBeUndefined()
})

test('a structure that can be dumped and not restored is no backup, and that is another thing than not knowing', async () => {
  const stage = await openRestoreStage({ empty: true })
  await stage.query(`
    create table public.b_first (id integer);
    create table public.z_audit (id integer);
    insert into public.z_audit values (1);
    create function public.known(integer) returns boolean language plpgsql as $$ begin return exists (select from public.z_audit where id = $1); end $$;
    alter table public.b_first add check (public.known(id));
    insert into public.b_first values (1)`)
  const { stored, identities } = await stage.take()
  expect(await refusal(stage, stored, identities)).toMatchObject({ code: 'backup.unrestorable', message: expect.stringMatching(/error: .*(b_first|z_audit)/s) })
})

test('broken off in the middle, it leaves no copy and throws the reason', async () => {
  const stage = await openRestoreStage({ empty: true })
  await addGoods(stage.query)
  const { stored, identities } = await stage.take()
  for (const at of ['restore', 'compare']) {
    const stopping = new AbortController()
    const reason = new Error('enough')
    const told = ({ step }: { step: string }) => void (step === at && stopping.abort(reason))
    await expect(verifyBackup(stage.context({ told, signal: stopping.signal }), stage.store, stored, identities)).rejects.toBe(reason)
    expect(await scratches()).toEqual([])
  }
  expect((await found(stage)).verification).toBeUndefined()
})

test('the connection that guards the copy dies: it is given up, dropped all the same, and nothing is known', async () => {
  const stage = await openRestoreStage({ empty: true })
  await addGoods(stage.query)
  const { stored, identities } = await stage.take()
  const cut = `select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and classid = 1885435757 and granted`
  let isCut = false
  const told = ({ step }: { step: string }) => {
    if (step !== 'restore' || isCut) return
    isCut = true
    spawnSync(join(postgres15Bin, 'psql'), ['-XAtq', '-c', cut, inject('adminUrl')])
  }
  await expect(verifyBackup(stage.context({ told }), stage.store, stored, identities)).rejects.toMatchObject({ code: 'backup.unverifiable', retryable: true })
  expect(await scratches()).toEqual([])
})
