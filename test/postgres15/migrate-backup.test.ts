import { mkdtemp, readdir, rm, writeFile, mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { openStage, type Stage } from '../migration/stage.ts'
import { postgres15Bin } from '../support/postgres15.ts'
import { runPawl } from '../support/process.ts'

const NOTES = {
  tag: '0000_notes',
  up: 'create table notes (n integer primary key);\n--> statement-breakpoint\ninsert into notes select generate_series(1, 500)',
  down: '-- pawl:destructive\ndrop table notes',
}
const SHORT = { tag: '0001_short', up: '-- pawl:destructive\ndelete from notes where n > 100', down: 'select 1' }

async function openPlace(stage: Stage) {
  const place = await mkdtemp(join(tmpdir(), 'pawl-before-'))
  onTestFinished(() => rm(place, { recursive: true, force: true }))
  const env = { PAWL_MIGRATIONS_DIR: stage.dir, PAWL_PG_BIN: postgres15Bin, BACKUP_DIR: place }
  return {
    place,
    migrate: (words: string[], more: Record<string, string> = {}) => runPawl(['migrate', ...words], stage.url, { env: { ...env, ...more } }),
    manifests: async () => (await readdir(place)).filter(name => name.endsWith('.manifest.json')),
  }
}
const rows = async (stage: Stage) => (await stage.query<{ n: number }>('select count(*) as n from notes'))[0]?.n

test('before files that delete data, up and down, one verified backup is taken, and what it holds can be restored', async () => {
  const stage = await openStage()
  const { migrate, manifests, place } = await openPlace(stage)
  await stage.write(NOTES)
  expect(await migrate(['up', '--json'])).toMatchObject({ code: 0 })
  expect(await manifests()).toEqual([])
  await stage.write(NOTES, SHORT)
  const up = await migrate(['up', '--json'])
  expect(up.code, up.stderr).toBe(0)
  const { applied, backups } = JSON.parse(up.stdout) as { applied: string[]; backups: string[] }
  expect(applied).toEqual(['0001_short'])
  expect(backups).toEqual([expect.stringContaining('-pre_migration-')])
  expect(await readdir(place)).toContain(`${backups[0]}.verified.json`)
  expect(await rows(stage)).toBe(100)
  // No flag is asked for where a backup protects.
  const down = await migrate(['down', '2'])
  expect(down.code, down.stderr).toBe(0)
  expect(await manifests()).toHaveLength(2)
  expect(await stage.applied()).toEqual([])

  const name = `pawl_restored_${Math.random().toString(36).slice(2, 10)}`
  onTestFinished(() => stage.query(`drop database if exists ${name} with (force)`).then(() => {}))
  const env = { BACKUP_DIR: place, PAWL_PG_BIN: postgres15Bin }
  expect(await runPawl(['restore', backups[0] ?? '', '--into', name], stage.url, { env })).toMatchObject({ code: 0 })
  const restored = await runPawl(['migrate', 'status', '--json'], new URL(`/${name}`, stage.url).href, { env: { PAWL_MIGRATIONS_DIR: stage.dir } })
  expect(JSON.parse(restored.stdout)).toMatchObject({ migrations: [{ state: 'applied' }, { state: 'pending' }] })
})

test('when no backup can be taken, nothing is changed', async () => {
  const stage = await openStage()
  const { migrate, place } = await openPlace(stage)
  await stage.write(NOTES)
  await migrate(['up'])
  await stage.write(NOTES, SHORT, { tag: '0002_more', up: 'create table more ()', down: 'drop table more' })
  await mkdir(join(place, 'blocked'))
  await writeFile(join(place, 'blocked', 'file'), '')
  for (const env of [{ PAWL_PG_BIN: '/nowhere' }, { BACKUP_DIR: join(place, 'blocked', 'file') }]) {
    const refused = await migrate(['up'], env)
    expect(refused.code).toBeGreaterThan(0)
    expect(refused.stderr).toMatch(/0001_short would delete data, and no backup could be taken first: .*; nothing was changed/)
    expect(refused.stderr).toMatch(/--no-backup/)
    expect(await stage.applied()).toEqual(['0000_notes'])
    expect(await rows(stage)).toBe(500)
  }
  const bare = await migrate(['up', '--no-backup'])
  expect(bare.stderr).toContain('WARNING: 0001_short will delete data, and NO BACKUP is taken first: --no-backup')
  expect(bare.code).toBe(0)
  expect(await rows(stage)).toBe(100)
})

test('a way back without a place, or without a backup, needs to be allowed, and it says what would have protected', async () => {
  const stage = await openStage()
  const { migrate, manifests } = await openPlace(stage)
  await stage.write(NOTES)
  await migrate(['up'])
  const refused = await migrate(['down'], { BACKUP_DIR: '' })
  expect(refused.code).toBe(2)
  expect(refused.stderr).toMatch(/deletes data; nothing was changed[\s\S]*BACKUP_DIR or BACKUP_S3_BUCKET/)
  expect((await migrate(['down', '--no-backup'])).code).toBe(2)
  expect(await rows(stage)).toBe(500)
  const allowed = await migrate(['down', '--no-backup', '--allow-data-loss'])
  expect(allowed).toMatchObject({ code: 0, stderr: expect.stringContaining('NO BACKUP') })
  expect(await manifests()).toEqual([])
})

test('the structure alone, or some tables, can be asked for', async () => {
  const stage = await openStage()
  const { migrate, place } = await openPlace(stage)
  await stage.write(NOTES)
  await migrate(['up'])
  for (const scope of ['schema', 'tables=public.notes']) {
    await stage.write(NOTES, SHORT)
    const up = await migrate(['up', '--backup', scope, '--json'])
    expect(up.code, up.stderr).toBe(0)
    expect((JSON.parse(up.stdout) as { backups: string[] }).backups).toHaveLength(1)
    await migrate(['down'])
  }
  expect((await readdir(place)).filter(name => name.endsWith('.verified.json'))).toHaveLength(2)
  expect((await migrate(['up', '--backup', 'half'])).code).toBe(2)
})
