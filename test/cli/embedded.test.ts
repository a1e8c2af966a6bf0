import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { holding } from '../../src/embedded/guard.ts'
import { ask, freshDirectory, gone, otherProcess, pidOf, runs, start } from '../support/embedded.ts'
import { until } from '../support/until.ts'

test('a fresh directory with a space in its path becomes a server of version 18, which ends with its only user', async () => {
  const server = await start({ dataDir: freshDirectory() })
  expect(server.adopted).toBe(false)
  const [row] = await ask(
    server.url,
    `select current_setting('server_version_num')::int / 10000 as version, current_setting('data_directory') as data, current_setting('listen_addresses') as addresses`,
  )
  expect(row).toEqual({ version: 18, data: server.dataDir, addresses: '127.0.0.1' })
  const pid = pidOf(server.dataDir)
  await server.stop()
  await gone(pid)
  await expect(ask(server.url, 'select 1')).rejects.toMatchObject({ code: 'ECONNREFUSED' })
})

test('PostgreSQL runs as an ordinary user, also when we are root, and nobody else may read its password or data', async () => {
  const server = await start({ dataDir: freshDirectory() })
  const owner = Number(spawnSync('ps', ['-o', 'uid=', '-p', String(pidOf(server.dataDir))], { encoding: 'utf8' }).stdout)
  expect(owner).not.toBe(0)
  if (process.getuid?.() !== 0) expect(owner).toBe(process.getuid?.())
  expect(statSync(server.dataDir)).toMatchObject({ uid: owner })
  expect(statSync(server.dataDir).mode & 0o077).toBe(0)
  expect(statSync(join(server.dataDir, '..', 'server.json')).mode & 0o077).toBe(0)
  const wrong = new URL(server.url)
  wrong.password = 'wrong'
  await expect(ask(wrong.href, 'select 1')).rejects.toMatchObject({ code: '28P01' })
})

test('a second start adopts the server that runs, and the end of either leaves it to the other', async () => {
  const directory = freshDirectory()
  const first = await start({ dataDir: directory })
  const pid = pidOf(first.dataDir)
  const second = await start({ dataDir: directory })
  expect([second.adopted, second.url, pidOf(second.dataDir)]).toEqual([true, first.url, pid])
  await second.stop()
  await ask(first.url, 'create table kept (id int)')
  const third = await start({ dataDir: directory })
  await first.stop()
  expect(await ask(third.url, 'select count(*) from kept')).toEqual([{ count: 0 }])
  await third.stop()
  await gone(pid)
})

test('another process adopts it as well, and keeps it when the first one is done', async () => {
  const directory = freshDirectory()
  const first = await start({ dataDir: directory })
  const pid = pidOf(first.dataDir)
  const other = await otherProcess(directory)
  expect(other).toMatchObject({ adopted: true, url: first.url })
  await first.stop()
  expect(await ask(other.url, 'select 1 as one')).toEqual([{ one: 1 }])
  other.child.stdin?.end()
  await gone(pid)
})

test('someone who comes at the very moment the last one leaves gets a server that stays', async () => {
  const directory = freshDirectory()
  let server = await start({ dataDir: directory })
  for (let round = 0; round < 12; round += 1) {
    const leaving = server.stop()
    for (let turn = 0; turn < round * 3; turn += 1) await new Promise(resolve => setImmediate(resolve))
    server = await start({ dataDir: directory })
    await leaving
    expect(await ask(server.url, 'select pg_sleep(0.25), 1 as one'), `round ${round}`).toMatchObject([{ one: 1 }])
  }
})

test('when its port is taken meanwhile, the server comes back on another, with the same data', async () => {
  const directory = freshDirectory()
  const first = await start({ dataDir: directory })
  await ask(first.url, 'create table kept as select 7 as number')
  const port = Number(new URL(first.url).port)
  await first.stop()
  const again = await start({ dataDir: directory })
  expect(Number(new URL(again.url).port), 'a free port is kept').toBe(port)
  await again.stop()
  const listener = createServer()
  await new Promise<void>(done => listener.listen(port, '127.0.0.1', done))
  onTestFinished(() => void listener.close())
  const moved = await start({ dataDir: directory })
  expect(Number(new URL(moved.url).port)).not.toBe(port)
  expect(await ask(moved.url, 'select number from kept')).toEqual([{ number: 7 }])
})

test('a parent that is killed takes the server with it, and what was committed is there at the next start', async () => {
  const directory = freshDirectory()
  const other = await otherProcess(directory)
  await ask(other.url, 'create table kept as select 7 as number')
  const pid = pidOf(other.dataDir)
  other.child.kill('SIGKILL')
  await gone(pid)
  const server = await start({ dataDir: directory })
  expect(server.adopted).toBe(false)
  expect(await ask(server.url, 'select number from kept')).toEqual([{ number: 7 }])
})

test('of two users that are killed one after the other, the second takes the server with it', async () => {
  const directory = freshDirectory()
  const [first, second] = [await otherProcess(directory), await otherProcess(directory)]
  const pid = pidOf(first.dataDir)
  first.child.kill('SIGKILL')
  await until('the first has ended', () => !runs(first.child.pid ?? 0))
  expect(await ask(second.url, 'select pg_sleep(1), 1 as one')).toMatchObject([{ one: 1 }])
  second.child.kill('SIGKILL')
  await gone(pid)
})

test('three processes that start at once on an empty directory share one server', async () => {
  const directory = freshDirectory()
  const users = await Promise.all([otherProcess(directory), otherProcess(directory), otherProcess(directory)])
  expect(users.map(user => user.adopted).sort()).toEqual([false, true, true])
  expect(new Set(users.map(user => user.url)).size).toBe(1)
  const answers = await Promise.all(users.map(user => ask<{ started: Date }>(user.url, 'select pg_postmaster_start_time() as started')))
  expect(new Set(answers.map(([row]) => row?.started.getTime())).size).toBe(1)
  const pid = pidOf(users[0]?.dataDir ?? '')
  for (const user of users) user.child.stdin?.end()
  await gone(pid)
  expect(readdirSync(join(directory, 'users'))).toEqual([])
})

test('stopped as by a power cut and started again, it has every committed row and its port', async () => {
  for (const mode of ['immediate', 'fast'] as const) {
    const server = await start({ dataDir: freshDirectory() })
    const [pid, url] = [pidOf(server.dataDir), server.url]
    await ask(url, 'create table kept as select i from generate_series(1, 1000) i')
    await server.kill(mode)
    await expect(ask(url, 'select 1')).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    await server.restart()
    expect([server.url, pidOf(server.dataDir) === pid]).toEqual([url, false])
    expect(await ask(url, 'select count(*) from kept')).toEqual([{ count: 1000 }])
    const last = pidOf(server.dataDir)
    await server.stop()
    await gone(last)
  }
})

test('an ephemeral server leaves nothing behind, whether its process stops it or is killed', async () => {
  const server = await start({ ephemeral: true })
  expect(await ask(server.url, 'show fsync')).toEqual([{ fsync: 'off' }])
  await server.stop()
  const root = join(server.dataDir, '..')
  expect([existsSync(root), existsSync(`${root}.lock`)]).toEqual([false, false])
  const other = await otherProcess('')
  expect(existsSync(other.dataDir)).toBe(true)
  other.child.kill('SIGKILL')
  await until('its directory is gone', () => !existsSync(join(other.dataDir, '..')))
})

test('what a power cut leaves behind is no obstacle: a pid file and a lock of processes that are gone, and users', async () => {
  const directory = freshDirectory()
  const first = await start({ dataDir: directory })
  await ask(first.url, 'create table kept ()')
  const pidFile = readFileSync(join(first.dataDir, 'postmaster.pid'), 'utf8')
  await first.stop()
  const dead = spawnSync(process.execPath, ['-e', '0']).pid
  // A pid that is gone, one that is somebody else's by now, and one of a user who was killed.
  for (const pid of [dead, process.pid]) {
    writeFileSync(join(first.dataDir, 'postmaster.pid'), pidFile.replace(/^\d+/, String(pid)))
    writeFileSync(`${directory}.lock`, String(dead))
    writeFileSync(join(directory, 'users', `${dead}.1`), '')
    writeFileSync(join(directory, 'closing'), '')
    const server = await start({ dataDir: directory })
    expect(server.adopted).toBe(false)
    expect(await ask(server.url, 'select * from kept')).toEqual([])
    expect(readdirSync(join(directory, 'users'))).toHaveLength(1)
    await server.stop()
  }
})

test('a first start that is killed in the middle of initdb is no obstacle to the second', async () => {
  const directory = freshDirectory()
  const starting = otherProcess(directory).catch((error: Error) => error.message)
  const lock = await until('initdb is at work', () => {
    const begun = existsSync(directory) && readdirSync(directory).some(name => name.startsWith('data'))
    return begun ? readFileSync(`${directory}.lock`, 'utf8') : undefined
  })
  process.kill(Number(lock), 'SIGKILL')
  expect(await starting).toBe('the other process ended without a server')
  const server = await start({ dataDir: directory })
  expect(await ask(server.url, 'select 1 as one')).toEqual([{ one: 1 }])
})

test('a lock whose holder lives and does not let go is said with its pid, instead of waiting for ever', async () => {
  const path = `${freshDirectory()}.lock`
  writeFileSync(path, String(process.pid))
  await expect(holding(path, async () => 'done', 50)).rejects.toMatchObject({
    code: 'embedded.locked',
    message: expect.stringContaining(String(process.pid)),
    hint: expect.stringContaining(path),
  })
  rmSync(path)
  expect(await holding(path, async () => 'done', 50)).toBe('done')
  expect(existsSync(path)).toBe(false)
})
