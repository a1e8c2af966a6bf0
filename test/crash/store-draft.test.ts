import { spawn } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test, vi } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { openStore } from '../../src/store.ts'
import { startS3 } from '../support/s3.ts'
import { collect } from '../support/store.ts'
import { until } from '../support/until.ts'
import { contentOf } from './store-writer.ts'

const KILLS = 20
const writer = fileURLToPath(new URL('store-writer.ts', import.meta.url))

/** A writer that has written its first file already, so that a kill meets it at work. */
async function startWriter(place: string, prefix: string, env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [writer, place, prefix], { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, ...env } })
  const ended = new Promise<NodeJS.Signals | null>(resolve => child.on('exit', (_code, signal) => resolve(signal)))
  onTestFinished(() => void child.kill('SIGKILL'))
  let written = ''
  child.stdout.on('data', text => {
    written += text
  })
  await until('the writer has written a file', () => written !== '' || child.exitCode !== null)
  return {
    async kill() {
      child.kill('SIGKILL')
      expect(await ended).toBe('SIGKILL')
    },
    written: () => written.split('\n').filter(key => key !== ''),
  }
}

test(`${KILLS} times kill -9 of a writer at a random moment: what is published is whole, and removing leaves nothing`, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'pawl-store-'))
  onTestFinished(() => rm(directory, { recursive: true, force: true }))
  const store = openStore(directory, { config: readConfig({}) })
  let drafts = 0
  let files = 0
  let continued = 0
  for (let kill = 0; kill < KILLS; kill += 1) {
    const { kill: killWriter, written } = await startWriter(directory, `kill-${kill}`)
    await systemClock.sleep(Math.random() * 150)
    await killWriter()
    const names = await readdir(directory)
    const published = names.filter(name => !name.startsWith('.'))
    for (const name of published) expect((await readFile(join(directory, name))).equals(contentOf(name)), name).toBe(true)
    // What it told of is there: it was on the disk before it was told.
    expect(written().filter(key => !published.includes(key))).toEqual([])
    drafts += names.length - published.length
    files += published.length
    continued += published.filter(name => name.includes('_continued')).length
    for (const name of names) await store.remove(name.replace(/^\.(.*)\.draft$/, '$1'))
    expect(await readdir(directory)).toEqual([])
  }
  console.info(`${KILLS} kills: ${files} whole files, ${continued} of them continued, ${drafts} drafts`)
  expect(drafts).toBeGreaterThan(0)
  expect(continued).toBeGreaterThan(0)
})

test('a writer to S3 that is killed in the middle leaves an upload that nobody sees, and removing ends it', async () => {
  const s3 = await startS3()
  onTestFinished(() => s3.close())
  const key = 'killed-0123456789abcdef.csv'
  const place = `s3://${s3.bucket}/some/prefix`
  for (let round = 0; round < 3; round += 1) {
    const child = spawn(process.execPath, [writer, place, key, '1000'], { stdio: 'ignore', env: { ...process.env, ...s3.env } })
    onTestFinished(() => void child.kill('SIGKILL'))
    const parts = s3.asked.length
    await until('two parts are on their way', () => s3.asked.slice(parts).filter(({ path }) => path.includes('partNumber')).length >= 2)
    child.kill('SIGKILL')
    await new Promise(resolve => child.on('exit', resolve))
  }
  // Three in all, which is more than one page of the list.
  await until('the fake S3 has taken note', () => s3.uploads().length === 3)
  // Another key that begins the same is someone else's.
  const other = await s3.begin(`some/prefix/${key}x`)
  for (const [name, value] of Object.entries(s3.env)) vi.stubEnv(name, value)
  onTestFinished(() => void vi.unstubAllEnvs())
  const store = openStore(place, { config: s3.config })
  await expect(collect(store.read(key))).rejects.toMatchObject({ code: 'store.file_missing' })
  await store.remove(key)
  expect(s3.uploads()).toEqual([other])
  const draft = await store.create(key, { contentType: 'text/csv' })
  await draft.write(Buffer.from('begun anew'))
  await draft.publish()
  expect((await collect(store.read(key))).toString()).toBe('begun anew')
})
