import { spawnSync } from 'node:child_process'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { classify } from '../../src/errors.ts'
import { openStore } from '../../src/store.ts'
import { CSV, directoryStage, failure } from '../support/store.ts'

const KEY = 'report-0123456789abcdef.csv'
const config = readConfig({})
const writer = fileURLToPath(new URL('../crash/store-writer.ts', import.meta.url))

test('a file in the place of the directory, and a place that is none, are named', async () => {
  const { store, directory } = await directoryStage()
  await writeFile(directory, 'no directory')
  expect(await failure(store.create(KEY, CSV))).toMatchObject({ code: 'store.place', message: expect.stringContaining(directory), hint: 'name a directory' })
  for (const place of ['reports', 's3://', 's3:///prefix', 'gs://bucket/x']) expect(() => openStore(place, { config }), place).toThrow(/no place for files/)
})

/** Runs the writer of test/crash on a directory and returns what became of it. `shell` comes before it. */
function write(directory: string, shell: string, uid?: number) {
  const script = `${shell} exec "$0" "$1" "$2" ${KEY} 5`
  const env = { ...process.env, ...(uid === undefined ? {} : { PAWL_TEST_UID: String(uid) }) }
  const { status, stderr } = spawnSync('bash', ['-c', script, process.execPath, writer, directory], { encoding: 'utf8', timeout: 50_000, env })
  return { status, stderr }
}

test('a full disk is named, and its draft gives the room back', async () => {
  const { directory, names } = await directoryStage()
  await mkdir(directory)
  // SIGXFSZ is ignored by Node, so that the limit comes as EFBIG: a full disk for one file.
  const { status, stderr } = write(directory, 'ulimit -f 2048;')
  expect(status).toBe(1)
  expect(stderr).toContain(`there is no room left in ${directory} (EFBIG)`)
  expect(stderr).toMatch(/code: 'store.full'/)
  expect(await names()).toEqual([`warm-${KEY}`])
})

const isRoot = process.getuid?.() === 0

test.runIf(isRoot)('a file system that is really full is named, and its draft gives the room back', async context => {
  const { directory, store, names } = await directoryStage()
  await mkdir(directory)
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', directory]).status !== 0) return context.skip('no right to mount a tmpfs')
  onTestFinished(() => void spawnSync('umount', [directory]))
  const draft = await store.create(KEY, CSV)
  const full = await failure(
    (async () => {
      for (let written = 0; written < 40; written += 1) await draft.write(Buffer.alloc(100_000))
    })(),
  )
  expect(full).toMatchObject({
    code: 'store.full',
    message: `there is no room left in ${directory} (ENOSPC)`,
    hint: expect.stringContaining('free some space'),
  })
  expect(classify(full)).toBe('refused')
  await draft.close()
  expect(await names()).toEqual([])
})

test('a directory without the rights is named, with who needs them', async () => {
  const { parent, directory } = await directoryStage()
  await mkdir(directory)
  await chmod(parent, 0o755)
  await chmod(directory, 0o555)
  const { status, stderr } = write(directory, '', isRoot ? 65_534 : undefined)
  expect(status).toBe(1)
  expect(stderr).toContain(`${directory} can't be used: EACCES`)
  expect(stderr).toMatch(/code: 'store.denied'/)
  expect(stderr).toMatch(/give the account that runs Pawl \(uid \d+\) the right to read and write there/)
})
