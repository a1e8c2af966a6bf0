import { spawn } from 'node:child_process'
import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { rolldown } from 'rolldown'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { newIdentity } from '../../src/seal.ts'
import { imageFlags } from '../support/bundle.ts'
import { startS3 } from '../support/s3.ts'
import { collect } from '../support/store.ts'
import { addBulk, openTakeStage } from './take-stage.ts'

const near = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const MEGABYTES = 300

let folder: string
// Bundled, as the image is: unbundled, drizzle-orm alone takes more than the limit.
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pawl-take-'))
  await symlink(near('../../node_modules'), join(folder, 'node_modules'))
  const bundle = await rolldown({
    input: near('take-child.ts'),
    platform: 'node',
    external: [/^@aws-sdk\//, 'age-encryption', 'pg-native'],
    logLevel: 'silent',
  })
  await bundle.write({ dir: folder, format: 'esm', entryFileNames: 'take-child.mjs' })
  await bundle.close()
})
afterAll(() => rm(folder, { recursive: true, force: true }))

for (const place of ['a directory', 'S3'] as const) {
  test(`${MEGABYTES} MB go to ${place} through a process of less than 150 MB`, async () => {
    const s3 = await startS3()
    onTestFinished(() => s3.close())
    const key = await newIdentity()
    const stage = await openTakeStage()
    await addBulk(stage.db, MEGABYTES)
    const where = place === 'S3' ? { ...s3.env, BACKUP_S3_BUCKET: s3.bucket } : { BACKUP_DIR: stage.directory }
    const child = spawn(process.execPath, [...imageFlags(), join(folder, 'take-child.mjs')], {
      env: { ...process.env, DATABASE_URL: stage.db.url, PAWL_BACKUP_RECIPIENTS: key.recipient, ...where },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const { bytes, megabytes } = JSON.parse((await collect(child.stdout)).toString()) as { bytes: number; megabytes: number }
    console.log(`${place}: ${Math.round(bytes / 1024 / 1024)} MB through ${megabytes} MB`)
    expect(bytes).toBeGreaterThan(MEGABYTES * 1024 * 1024)
    expect(megabytes).toBeLessThan(150)
  })
}
