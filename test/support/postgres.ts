import { randomBytes } from 'node:crypto'
import { inject } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { type Database, openDatabase } from '../../src/database.ts'
import { openLog } from '../../src/log.ts'
import { withDatabase } from './global.ts'

export const silent = openLog({ level: 'silent' })

export type TestDatabase = Database & {
  url: string
  /** The same database as another login. */
  urlAs(user: string, password: string): string
  drop(): Promise<void>
}

/** A database of the test's own: a clone of the migrated template, or an empty one. Call `drop` when done. */
export async function createDatabase(options: { empty?: boolean } = {}): Promise<TestDatabase> {
  const adminUrl = inject('adminUrl')
  const name = `pawl_test_${randomBytes(6).toString('hex')}`
  const admin = openDatabase(readConfig({ DATABASE_URL: adminUrl }), silent, { max: 1 })
  try {
    await admin.query(`create database ${name} template ${options.empty === true ? 'template0' : inject('template')}`)
  } finally {
    await admin.close()
  }
  const url = withDatabase(adminUrl, name)
  const db = openDatabase(readConfig({ DATABASE_URL: url }), silent, { max: 4, name: 'test' })
  return {
    ...db,
    url,
    urlAs(user, password) {
      const changed = new URL(url)
      changed.username = user
      changed.password = password
      return changed.href
    },
    async drop() {
      await db.close()
      const again = openDatabase(readConfig({ DATABASE_URL: adminUrl }), silent, { max: 1 })
      await again.query(`drop database if exists ${name} with (force)`)
      await again.close()
    },
  }
}
