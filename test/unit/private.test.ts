import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { isOnlyOurs } from '../../src/private.ts'
import { openEngine } from '../../workers/refresh/sources/duckdb/engine.ts'

let folder: string
const place = (name: string) => join(folder, name)

beforeEach(() => {
  folder = mkdtempSync(join(realpathSync(tmpdir()), 'pawl-private-'))
})

afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(folder, { recursive: true })
})

test('a directory is only ours when we made it and nobody else may write to it', () => {
  mkdirSync(place('own'), { mode: 0o755 })
  expect(isOnlyOurs(place('own'))).toBe(true)
  expect(isOnlyOurs(place('missing'))).toBe(false)
  symlinkSync(place('own'), place('link'))
  symlinkSync(place('missing'), place('dangling'))
  writeFileSync(place('file'), '')
  for (const name of ['link', 'dangling', 'file']) expect([name, isOnlyOurs(place(name))]).toEqual([name, false])
  for (const mode of [0o777, 0o775, 0o757]) {
    chmodSync(place('own'), mode)
    expect([mode, isOnlyOurs(place('own'))]).toEqual([mode, false])
  }
  chmodSync(place('own'), 0o700)
  expect(isOnlyOurs(place('own'), 54_321)).toBe(false)
})

test.skipIf(process.getuid?.() !== 0)('a directory that another user made is not ours, whatever its mode', () => {
  mkdirSync(place('theirs'), { mode: 0o700 })
  chownSync(place('theirs'), 54_321, 54_321)
  expect(isOnlyOurs(place('theirs'))).toBe(false)
  expect(isOnlyOurs(place('theirs'), 54_321)).toBe(true)
})

test('what a refresh spills to disk goes into no directory that others can write to', async () => {
  vi.stubEnv('TMPDIR', folder)
  const known = place(`pawl-duckdb-${process.getuid?.() ?? 'me'}`)
  mkdirSync(known)
  chmodSync(known, 0o777)
  const engine = await openEngine({})
  const others = readdirSync(folder).filter(name => name !== `pawl-duckdb-${process.getuid?.() ?? 'me'}`)
  expect(readdirSync(known)).toEqual([])
  expect(others.length).toBe(1)
  expect(isOnlyOurs(place(others[0] ?? ''))).toBe(true)
  await engine.close()
})
