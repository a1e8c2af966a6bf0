import { expect, onTestFinished, test, vi } from 'vitest'
import { newIdentity } from '../../src/seal.ts'
import { openStore } from '../../src/store.ts'
import { listBackups, removeBackup } from '../../workers/maintenance/backups/catalog.ts'
import { pruneBackups } from '../../workers/maintenance/backups/prune.ts'
import { restoreBackup } from '../../workers/maintenance/backups/restore.ts'
import { databaseUrl } from '../../src/libpq.ts'
import { takeBackup } from '../../workers/maintenance/backups/take.ts'
import { verifyBackup } from '../../workers/maintenance/backups/verify.ts'
import { ask } from '../support/embedded.ts'
import { startS3 } from '../support/s3.ts'
import { scratches } from './restore-stage.ts'
import { openTakeStage } from './take-stage.ts'

test('the whole way by S3: taken, verified, found, restored with the private key, damaged and found out, removed to the last object', async () => {
  const s3 = await startS3()
  onTestFinished(() => s3.close())
  for (const [name, value] of Object.entries(s3.env)) vi.stubEnv(name, value)
  onTestFinished(() => void vi.unstubAllEnvs())
  const { identity, recipient } = await newIdentity()
  const stage = await openTakeStage({ BACKUP_S3_BUCKET: `s3://${s3.bucket}/database`, PAWL_S3_PATH_STYLE: 'true', PAWL_BACKUP_RECIPIENTS: recipient })
  // Larger than two parts, and nothing that compresses.
  await stage.db.query(`create table bulk as select i, sha512(i::text::bytea) || sha512((-i)::text::bytea) as raw from generate_series(1, 150000) i`)
  const context = stage.context()
  const store = openStore(context.config.backup.place ?? '', { config: context.config })
  const taken = await takeBackup(context, { kind: 'daily', scope: 'full' })
  expect(s3.asked.filter(({ method, path }) => method === 'PUT' && path.includes('partNumber=')).length).toBeGreaterThan(1)
  expect(await verifyBackup(context, store, taken.stored, taken.identities)).toMatchObject({ name: taken.stored.manifest.name })
  const { backups, broken, loose } = await listBackups(store)
  expect([backups.map(({ verification }) => verification !== undefined), broken, loose]).toEqual([[true], [], []])

  const into = `pawl_restored_${process.pid}`
  onTestFinished(() => ask(stage.db.url, `drop database if exists ${into} with (force)`).then(() => {}))
  await restoreBackup(context, store, taken.stored, { into, identities: [identity], owners: true, verify: true })
  expect(await ask(databaseUrl(stage.db.url, into), 'select count(*)::integer as rows from bulk')).toEqual([{ rows: 150_000 }])

  // Someone else's bytes under this key.
  const draft = await store.create(taken.stored.manifest.files.dump.key, { contentType: 'application/octet-stream' })
  await draft.write(Buffer.from('age-encryption.org/v1 and nothing else'))
  await draft.publish()
  await expect(verifyBackup(context, store, taken.stored, taken.identities)).rejects.toMatchObject({
    code: expect.stringMatching(/^(backup\.(damaged|broken)|seal\.damaged)$/),
  })
  expect(await scratches()).toEqual([])

  // A second one, verified, so that the first may go.
  const second = await takeBackup(context, { kind: 'daily', scope: 'full' })
  await verifyBackup(context, store, second.stored, second.identities)
  const pruned = await pruneBackups(context, store, { isDryRun: true })
  expect(pruned.decisions.find(({ backup }) => backup.manifest.name === second.stored.manifest.name)?.verdict).toBe('keep')
  for (const { manifest } of [taken.stored, second.stored]) await removeBackup(store, manifest.name)
  const left: string[] = []
  for await (const { key } of store.list()) left.push(key)
  expect([left, s3.uploads()]).toEqual([[], []])
})
