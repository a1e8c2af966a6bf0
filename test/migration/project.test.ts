import { expect, test } from 'vitest'
import { installBoss } from '../../src/boss.ts'
import { migrateDown, migrateUp, migrationsDir, verifyMigrations } from '../../src/migrate.ts'
import { readMigrations } from '../../src/migrate/files.ts'
import { silent } from '../support/postgres.ts'
import { catalog } from './catalog.ts'
import { openStage } from './stage.ts'

test('each migration of the project can be taken back and applied again, and the structure is the same', async () => {
  const stage = await openStage()
  const context = { ...stage.context, dir: migrationsDir(stage.config) }
  const { entries, problems } = await readMigrations(context.dir)
  expect(problems).toEqual([])
  expect(entries.length).toBeGreaterThan(0)
  // With no files at all the runner makes its own two tables, which are nobody's to take back.
  await stage.write()
  await migrateUp(stage.context, { before: () => installBoss(stage.config, silent) })
  for (const { tag } of entries) {
    const before = await catalog(stage.query)
    await migrateUp(context, { to: tag })
    const after = await catalog(stage.query)
    await migrateDown(context, { allowDataLoss: true })
    expect(await catalog(stage.query), `structure after ${tag} was taken back`).toEqual(before)
    await migrateUp(context, { to: tag })
    expect(await catalog(stage.query), `structure after ${tag} was applied again`).toEqual(after)
  }
  expect(await verifyMigrations(context)).toEqual({ ok: true, problems: [] })
}, 120_000)
