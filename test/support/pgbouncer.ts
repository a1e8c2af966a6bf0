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

/** A PgBouncer of our own. */
export type Pgbouncer = {
  /** The server's URL with PgBouncer's address in it. */
  url: string
  /** One command of its console, such as `set max_db_connections = 1`. */
  tell(command: string): Promise<void>
  kill(): Promise<void>
  /** Again, on the same port, with its first settings. */
  restart(): Promise<void>
  close(): Promise<void>
}

/** Starts PgBouncer in front of the server of `url` until the test ends; returns the URL through it. */
export async function startPgbouncer(url: string, mode: 'transaction' | 'session', settings = ''): Promise<string> {
  const pooler = await openPgbouncer(url, mode, settings)
  onTestFinished(() => pooler.close())
  return pooler.url
}

/** Starts PgBouncer in front of the server of `url`, whose login it takes, until it is closed. */
export async function openPgbouncer(url: string, mode: 'transaction' | 'session', settings = ''): Promise<Pgbouncer> {
  if (binary === undefined) throw new Error('pgbouncer is not installed: apt-get install pgbouncer')
  const path = binary
  const folder = await mkdtemp(join(tmpdir(), 'pawl-pgbouncer-'))
  const port = await freePort()
  const target = new URL(url)
  const user = decodeURIComponent(target.username)
  await writeFile(join(folder, 'users'), `"${user}" "${decodeURIComponent(target.password)}"\n`)
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
admin_users = ${user}
pool_mode = ${mode}
${settings}
`,
  )
  // PgBouncer will not run as root.
  const account = process.getuid?.() === 0 ? accountOf('nobody') : undefined
  if (account) for (const file of [folder, join(folder, 'ini'), join(folder, 'users')]) chownSync(file, account.uid, account.gid)
  target.port = String(port)
  const consoleUrl = Object.assign(new URL(target), { pathname: '/pgbouncer' }).href
  const run = async () => {
    const started = spawn(path, [join(folder, 'ini')], { stdio: 'ignore', ...account })
    // Its console: it answers for itself, whatever the server behind it does.
    await until('PgBouncer answers', () =>
      ask(consoleUrl, 'show version').then(
        () => true,
        () => false,
      ),
    )
    return started
  }
  let child = await run()
  const kill = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise(resolve => child.once('exit', resolve))
    child.kill('SIGKILL')
    await gone
  }
  return {
    url: target.href,
    tell: command => ask(consoleUrl, command),
    kill,
    async restart() {
      child = await run()
    },
    async close() {
      await kill()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function ask(url: string, command: string): Promise<void> {
  const connection = await connectDirect(readConfig({ DATABASE_URL: url }), 'console')
  try {
    await connection.query(command)
  } finally {
    await connection.close()
  }
}

function accountOf(name: string): { uid: number; gid: number } {
  const [uid = '', gid = ''] = spawnSync('sh', ['-c', `id -u ${name}; id -g ${name}`])
    .stdout.toString()
    .split('\n')
  return { uid: Number(uid), gid: Number(gid) }
}
