import { spawn, spawnSync } from 'node:child_process'
import { chownSync, existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { freePort } from '../../src/embedded/ports.ts'
import { until } from './until.ts'

const binary = ['/usr/sbin/pgbouncer', '/usr/bin/pgbouncer', '/usr/local/bin/pgbouncer'].find(existsSync)

/** Whether tests with a real PgBouncer must be left out; says so, loudly. In CI nothing is left out: they fail there. */
export function pgbouncerMissing(): boolean {
  if (binary !== undefined || process.env.CI !== undefined) return false
  console.warn('SKIPPED: a test with a real PgBouncer. Install it to run it: apt-get install pgbouncer')
  return true
}

/** Starts PgBouncer in front of the server of `url` until the test ends; returns the URL through it. */
export async function startPgbouncer(url: string, mode: 'transaction' | 'session', settings = ''): Promise<string> {
  if (binary === undefined) throw new Error('pgbouncer is not installed: apt-get install pgbouncer')
  const folder = await mkdtemp(join(tmpdir(), 'pawl-pgbouncer-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const port = await freePort()
  const target = new URL(url)
  await writeFile(join(folder, 'users'), `"${decodeURIComponent(target.username)}" "${decodeURIComponent(target.password)}"\n`)
  await writeFile(
    join(folder, 'ini'),
    `[databases]
* = host=${target.hostname} port=${target.port || 5432}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${join(folder, 'users')}
pool_mode = ${mode}
${settings}
`,
  )
  // PgBouncer will not run as root.
  const account = process.getuid?.() === 0 ? accountOf('nobody') : undefined
  if (account) for (const path of [folder, join(folder, 'ini'), join(folder, 'users')]) chownSync(path, account.uid, account.gid)
  const child = spawn(binary, [join(folder, 'ini')], { stdio: 'ignore', ...account })
  onTestFinished(() => void child.kill('SIGKILL'))
  target.port = String(port)
  const config = readConfig({ DATABASE_URL: target.href })
  const knock = () =>
    connectDirect(config, 'knock').then(
      connection => connection.close().then(() => true),
      () => false,
    )
  await until('PgBouncer answers', knock)
  return target.href
}

function accountOf(name: string): { uid: number; gid: number } {
  const [uid = '', gid = ''] = spawnSync('sh', ['-c', `id -u ${name}; id -g ${name}`])
    .stdout.toString()
    .split('\n')
  return { uid: Number(uid), gid: Number(gid) }
}
