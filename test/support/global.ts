import type { TestProject } from 'vitest/node'
import { upgrade } from '../../bin/commands/migrate.ts'
import { readConfig } from '../../src/config.ts'
import { openDatabase } from '../../src/database.ts'
import { startEmbedded } from '../../src/embedded.ts'
import { openLog } from '../../src/log.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** A server where tests may create databases. */
    adminUrl: string
    /** The name of a migrated database to clone from. */
    template: string
  }
}

/**
 * One PostgreSQL for the whole run (PAWL_TEST_DATABASE_URL, else an embedded one), with a migrated template database on it. Whoever runs the
 * tests again and again (`npm run test:mutations`) names one that is there already (PAWL_TEST_TEMPLATE).
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const log = openLog({ level: 'silent' })
  const given = process.env.PAWL_TEST_DATABASE_URL
  const server = given === undefined ? await startEmbedded({ log, ephemeral: true, settings: { max_connections: '300', shared_buffers: '128MB' } }) : undefined
  const adminUrl = given ?? server?.url ?? ''
  const made = process.env.PAWL_TEST_TEMPLATE
  if (given !== undefined && made !== undefined) {
    project.provide('adminUrl', adminUrl)
    project.provide('template', made)
    return async () => {}
  }
  const template = `pawl_template_${process.pid}`
  const admin = openDatabase(readConfig({ DATABASE_URL: adminUrl }), log, { max: 1 })
  await admin.query(`create database ${template}`)
  const url = withDatabase(adminUrl, template)
  await upgrade(readConfig({ DATABASE_URL: url }), log)
  project.provide('adminUrl', adminUrl)
  project.provide('template', template)
  return async () => {
    await admin.query(`drop database ${template} with (force)`)
    await admin.close()
    await server?.stop()
  }
}

/** The same server and user, another database. */
export function withDatabase(url: string, name: string): string {
  const changed = new URL(url)
  changed.pathname = `/${name}`
  return changed.href
}
