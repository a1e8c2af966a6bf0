import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { databaseIdentity, giveTo } from '../../src/embedded/binaries.ts'
import { placeIn, writeSecret } from '../../src/embedded/cluster.ts'
import { type EmbeddedServer, startEmbedded } from '../../src/embedded.ts'
import { silent } from './postgres.ts'

/**
 * Starts a streaming standby of `primary`, an embedded server: a copy of its data directory, taken between `pg_backup_start` and
 * `pg_backup_stop` because there is no pg_basebackup here. It ends with this process, as embedded servers do; `stop` removes its files too.
 */
export async function startStandby(primary: EmbeddedServer, settings: Record<string, string> = {}): Promise<EmbeddedServer> {
  const root = mkdtempSync(join(tmpdir(), 'pawl-standby-'))
  try {
    // mkdtemp keeps others out, and the database's user is another when we are root.
    chmodSync(root, 0o755)
    const place = placeIn(root, databaseIdentity())
    giveTo(place.identity, root)
    await copyData(primary, place.data)
    follow(primary, place.data)
    giveTo(place.identity, join(place.data, 'backup_label'))
    writeSecret(place, { password: decodeURIComponent(new URL(primary.url).password) })
    const server = await startEmbedded({ log: silent, dataDir: root, settings: { fsync: 'off', ...settings } })
    return {
      ...server,
      // A spread would read the getter once; the port may change with a restart.
      get url() {
        return server.url
      },
      async stop() {
        await server.stop()
        remove(root)
      },
    }
  } catch (error) {
    remove(root)
    throw error
  }
}

/** More than once: the server's watchdog may be writing its last lines there. */
function remove(root: string): void {
  rmSync(root, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
}

async function copyData(primary: EmbeddedServer, data: string): Promise<void> {
  // The backup belongs to the session that began it.
  const session = await connectDirect(readConfig({ DATABASE_URL: primary.url }), 'base backup')
  try {
    await session.query(`select pg_backup_start('standby', true)`)
    // Beside this process's other work: it may be the network of somebody's workers. Files that the server removes meanwhile are no matter.
    const copying = spawn('cp', ['-a', primary.dataDir, data], { stdio: 'ignore' })
    await once(copying, 'close')
    if (!existsSync(join(data, 'PG_VERSION'))) throw new Error(`could not copy ${primary.dataDir}: cp ended with ${copying.exitCode}`)
    const [label] = await session.query<{ labelfile: string }>('select labelfile from pg_backup_stop(false)')
    writeFileSync(join(data, 'backup_label'), label?.labelfile ?? '')
  } finally {
    await session.close()
  }
}

/** Makes a copied data directory one that follows `primary`. */
function follow(primary: EmbeddedServer, data: string): void {
  const { hostname, port, username, password } = new URL(primary.url)
  for (const name of ['postmaster.pid', 'postmaster.opts', 'standby.signal']) rmSync(join(data, name), { force: true })
  const source = `host=${hostname} port=${port} user=${username} password=${decodeURIComponent(password)} application_name=standby`
  writeFileSync(join(data, 'postgresql.auto.conf'), `primary_conninfo = '${source}'\nwal_retrieve_retry_interval = '100ms'\n`)
  writeFileSync(join(data, 'standby.signal'), '')
}
