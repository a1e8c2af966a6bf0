import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openBoss } from '../../src/boss.ts'
import { readConfig } from '../../src/config.ts'
import { connectDirect, openDatabase } from '../../src/database.ts'
import { messageOf } from '../../src/errors.ts'
import { createDatabase, silent, type TestDatabase } from '../support/postgres.ts'
import { CERTIFICATE, openTlsDoor, type TlsDoor } from '../support/tls.ts'

let db: TestDatabase
let door: TlsDoor
let folder: string

beforeAll(async () => {
  db = await createDatabase()
  door = await openTlsDoor(db.url)
  folder = await mkdtemp(join(tmpdir(), 'pawl-tls-'))
  await writeFile(join(folder, 'root.crt'), CERTIFICATE)
})

afterAll(async () => {
  await door.close()
  await db.drop()
  await rm(folder, { recursive: true })
})

function configOf(parameters: string, rejectUnauthorized: string) {
  const url = new URL(db.url)
  url.hostname = 'localhost'
  url.port = String(door.port)
  url.search = parameters
  return readConfig({ DATABASE_URL: url.href, DB_SSL_REJECT_UNAUTHORIZED: rejectUnauthorized })
}

/** What each of the three ways to the database says: the pool, a connection of its own, pg-boss. */
async function tryAll(parameters: string, rejectUnauthorized: string): Promise<string[]> {
  const config = configOf(parameters, rejectUnauthorized)
  const pool = openDatabase(config, silent, { max: 1 })
  const single = await pool.query('select 1').then(() => 'connected', messageOf)
  await pool.close()
  const direct = await connectDirect(config, 'tls').then(async connection => {
    await connection.close()
    return 'connected'
  }, messageOf)
  const boss = openBoss(config, silent, { supervise: false, name: 'tls' })
  const queue = await boss.start().then(() => 'connected', messageOf)
  await boss.stop({ graceful: false }).catch(() => {})
  return [single, direct, queue]
}

for (const mode of ['prefer', 'require', 'verify-ca', 'verify-full']) {
  test(`with sslmode=${mode} a certificate that nobody vouches for is refused, and accepted where DB_SSL_REJECT_UNAUTHORIZED is false`, async () => {
    for (const said of await tryAll(`sslmode=${mode}`, 'true')) expect(said).toMatch(/self-signed certificate/)
    expect(await tryAll(`sslmode=${mode}`, 'false')).toEqual(['connected', 'connected', 'connected'])
  })
}

test('a certificate of an authority that is named is accepted', async () => {
  expect(await tryAll(`sslmode=verify-full&sslrootcert=${join(folder, 'root.crt')}`, 'true')).toEqual(['connected', 'connected', 'connected'])
})

test('none of them ever spoke in the clear', () => {
  expect(door.sawPlainText()).toBe(false)
})
