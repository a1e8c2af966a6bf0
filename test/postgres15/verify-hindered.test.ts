import { spawnSync } from 'node:child_process'
import { mkdirSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, inject, onTestFinished, test } from 'vitest'
import { giveTo } from '../../src/embedded/binaries.ts'
import { readSecret } from '../../src/embedded/cluster.ts'
import { verifyBackup } from '../../workers/maintenance/backups/verify.ts'
import { ask } from '../support/embedded.ts'
import { type Postgres15, runPostgres15, startPostgres15 } from '../support/postgres15.ts'
import { addGoods, found, openRestoreStage, scratches } from './restore-stage.ts'

const MEGABYTE = 1024 * 1024

/** A server whose tables are on a small disk of their own, and its WAL elsewhere: a full one would end the server. Undefined where root may mount none. */
async function startSmall(): Promise<{ server: Postgres15; disk: string } | undefined> {
  let disk = ''
  let refusal = ''
  const server = await startPostgres15({
    // With slots, a checkpoint on a full disk ends the server.
    settings: { wal_level: 'minimal', max_wal_senders: '0', max_replication_slots: '0' },
    prepare(place) {
      disk = place.data
      mkdirSync(disk, { mode: 0o700 })
      const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=96m,mode=0700', 'tmpfs', disk], { encoding: 'utf8' })
      refusal = mounted.status === 0 ? '' : mounted.stderr
      giveTo(place.identity, disk)
      const passwordFile = join(place.root, 'password')
      writeFileSync(passwordFile, readSecret(place).password)
      giveTo(place.identity, passwordFile)
      const access = ['-U', 'pawl', '-A', 'scram-sha-256', `--pwfile=${passwordFile}`]
      runPostgres15('initdb', ['-D', disk, '-X', join(place.root, 'wal'), ...access, '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync', '--no-instructions'])
    },
  })
  onTestFinished(async () => {
    await server.kill('fast')
    if (refusal === '') spawnSync('umount', ['-l', disk])
    await server.stop()
  })
  return refusal === '' ? { server, disk } : undefined
}

test.runIf(process.getuid?.() === 0)('a scratch server whose disk is full says nothing of the backup: nothing is known, nothing is left', async () => {
  const small = await startSmall()
  if (small === undefined && process.env.CI === undefined) {
    console.warn('SKIPPED: a verification on a full disk. This machine lets root mount none')
    return
  }
  if (small === undefined) throw new Error('no tmpfs could be mounted')
  const stage = await openRestoreStage({ empty: true })
  await addGoods(stage.query)
  await stage.query(`create table shop.bulk as select i, repeat(md5(i::text), 20) as text from generate_series(1, 30000) i`)
  const { stored, identities } = await stage.take()
  const env = { PAWL_SCRATCH_URL: small.server.url }
  // Room for a database and its first tables, and not for all of them.
  const { bavail, bsize } = statfsSync(small.disk)
  const filler = join(small.disk, 'filler')
  writeFileSync(filler, Buffer.alloc(Math.max(0, bavail * bsize - 14 * MEGABYTE)))
  const error = await verifyBackup(stage.context({}, env), stage.store, stored, identities).catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({ code: 'backup.unverifiable', message: expect.stringMatching(/could not extend file|No space left on device/) })
  expect(await scratches(small.server.url)).toEqual([])
  expect((await found(stage)).verification).toBeUndefined()
  // The same backup, the same server, with room.
  spawnSync('rm', ['-f', filler])
  await verifyBackup(stage.context({}, env), stage.store, stored, identities)
  expect((await found(stage)).verification).toBeDefined()
  expect(await scratches(small.server.url)).toEqual([])
})

test('a scratch server that is killed in the middle and comes back has no copy left, and nothing is known', async () => {
  const stage = await openRestoreStage({ empty: true })
  await addGoods(stage.query)
  const { stored, identities } = await stage.take()
  const other = await startPostgres15()
  onTestFinished(() => other.stop())
  let coming: Promise<void> | undefined
  const told = ({ step }: { step: string }) => {
    if (step === 'restore') coming ??= other.kill('immediate').then(() => other.restart())
  }
  const verifying = verifyBackup(stage.context({ told }, { PAWL_SCRATCH_URL: other.url }), stage.store, stored, identities)
  await expect(verifying).rejects.toMatchObject({ code: 'backup.unverifiable', retryable: true })
  await coming
  expect(await scratches(other.url)).toEqual([])
})

test('a login that may create databases and nothing else verifies on its own server, and on one that lacks the roles', async () => {
  const stage = await openRestoreStage()
  await addGoods(stage.query)
  await stage.query('alter table shop.goods owner to pawl_operator; alter table shop.goods enable row level security')
  const { stored, identities } = await stage.take()
  const other = await startPostgres15()
  onTestFinished(() => other.stop())
  const login = `maker_${Math.random().toString(36).slice(2, 10)}`
  onTestFinished(async () => void (await ask(inject('adminUrl'), `drop role ${login}`)))
  for (const url of [inject('adminUrl'), other.url]) {
    await ask(url, `create role ${login} login createdb password 'plain'`)
    const PAWL_SCRATCH_URL = Object.assign(new URL(url), { username: login, password: 'plain' }).href
    await verifyBackup(stage.context({}, { PAWL_SCRATCH_URL }), stage.store, stored, identities)
    expect(await scratches(url)).toEqual([])
  }
})

test('what a scratch server lacks is named, and is no verdict on the backup', async () => {
  const stage = await openRestoreStage({ empty: true })
  const role = `reader_${Math.random().toString(36).slice(2, 10)}`
  await stage.query(`create role ${role}; create table public.mine (id integer); alter table public.mine enable row level security;
    create policy own on public.mine to ${role} using (true)`)
  onTestFinished(async () => void (await ask(inject('adminUrl'), `drop role if exists ${role}`)))
  const { stored, identities } = await stage.take()
  const other = await startPostgres15()
  onTestFinished(() => other.stop())
  const verify = () => verifyBackup(stage.context({}, { PAWL_SCRATCH_URL: other.url }), stage.store, stored, identities)
  await expect(verify()).rejects.toMatchObject({ code: 'backup.unverifiable', message: expect.stringContaining(`role "${role}" does not exist`) })
  expect(await scratches(other.url)).toEqual([])
  await ask(other.url, `create role ${role}`)
  await expect(verify()).resolves.toMatchObject({ name: stored.manifest.name })
  await stage.query('drop table public.mine')
})
