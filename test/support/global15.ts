import { existsSync } from 'node:fs'
import type { TestProject } from 'vitest/node'
import { upgrade } from '../../bin/commands/migrate.ts'
import { readConfig } from '../../src/config.ts'
import { openDatabase } from '../../src/database.ts'
import { openLog } from '../../src/log.ts'
import { withDatabase } from './global.ts'
import { postgres15Bin, startPostgres15 } from './postgres15.ts'

/** One PostgreSQL 15 for the whole run, with a migrated template database on it, as `test/support/postgres.ts` wants them. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  if (!existsSync(postgres15Bin)) throw new Error(`there is no PostgreSQL 15 in ${postgres15Bin}: apt-get install postgresql-15`)
  const log = openLog({ level: 'silent' })
  const server = await startPostgres15({ settings: { shared_buffers: '128MB' } })
  const template = `pawl_template_${process.pid}`
  const admin = openDatabase(readConfig({ DATABASE_URL: server.url }), log, { max: 1 })
  try {
    await admin.query(`create database ${template}`)
    await upgrade(readConfig({ DATABASE_URL: withDatabase(server.url, template) }), log)
  } catch (error) {
    await admin.close()
    await server.stop()
    throw error
  }
  await admin.close()
  project.provide('adminUrl', server.url)
  project.provide('template', template)
  return () => server.stop()
}
