import { grantBoss, installBoss } from '../../src/boss.ts'
import { systemClock } from '../../src/clock.ts'
import type { Config } from '../../src/config.ts'
import { codeOf, messageOf } from '../../src/errors.ts'
import type { Log } from '../../src/log.ts'
import {
  acceptDrift,
  type MigrateContext,
  type Moved,
  migrateDown,
  migrateUp,
  migrationStatus,
  migrationsDir,
  planMigrations,
  verifyMigrations,
} from '../../src/migrate.ts'
import type { PlannedMigration } from '../../src/migrate/plan.ts'
import { answer, exitCodes, type Terminal, type Values } from '../terminal.ts'
import type { Run } from '../spec.ts'
import { withDatabaseUrl } from './connect.ts'
import { protection } from '../protect.ts'
import { table } from '../table.ts'

/** Applies pg-boss's schema, our files, and the grants between them; what `pawl dev` and the migration Job do. */
export async function upgrade(config: Config, log: Log): Promise<string[]> {
  const moved = await bringUp(config, log)
  return moved.map(move => move.tag)
}

function bringUp(config: Config, log: Log, beforeDestructive?: MigrateContext['beforeDestructive']): Promise<Moved[]> {
  return migrateUp(
    { ...contextOf(config, log), beforeDestructive },
    {
      before: async query => {
        await installBoss(config, log)
        await grantBoss(query)
      },
    },
  )
}

function contextOf(config: Config, log: Log): MigrateContext {
  return { config, log, clock: systemClock, dir: migrationsDir(config) }
}

/** `pawl migrate …` */
export const migrate: Run = async (terminal, values, [verb, steps]) => {
  const config = await withDatabaseUrl(terminal.config)
  const context = contextOf(config, terminal.log)
  if (verb === 'up') return up(terminal, config, values)
  if (verb === 'down') return down(terminal, config, Number(steps ?? 1), values)
  if (verb === 'plan') return plan(terminal, context, values.sql === true)
  if (verb === 'status') return status(terminal, context)
  if (values.accept === true) await acceptDrift(context)
  return verify(terminal, context)
}

async function up(terminal: Terminal, config: Config, values: Values): Promise<number> {
  const { hook, taken } = protection(terminal, config, values, true)
  const moved = await bringUp(config, terminal.log, hook)
  const machine = { applied: moved.map(move => move.tag), restore_points: restorePoints(moved), backups: taken }
  answer(terminal, machine, moved.length === 0 ? 'nothing to apply' : moved.map(move => `applied ${told(move)}`).join('\n'))
  return exitCodes.ok
}

async function status(terminal: Terminal, context: MigrateContext): Promise<number> {
  const migrations = await migrationStatus(context)
  const rows = migrations.map(({ tag, state, appliedAt, appliedBy }) => ({
    state,
    migration: tag,
    applied_at: appliedAt?.toISOString() ?? '',
    applied_by: appliedBy ?? '',
  }))
  answer(terminal, { migrations }, table(rows))
  return exitCodes.ok
}

async function down(terminal: Terminal, config: Config, count: number, values: Values): Promise<number> {
  const allowDataLoss = values['allow-data-loss'] === true
  const { hook, taken } = protection(terminal, config, values, allowDataLoss)
  const moved = await migrateDown({ ...contextOf(config, terminal.log), beforeDestructive: hook }, { steps: count, allowDataLoss })
  const machine = { taken_back: moved.map(move => move.tag), restore_points: restorePoints(moved), backups: taken }
  answer(terminal, machine, moved.map(move => `took back ${told(move)}`).join('\n'))
  return exitCodes.ok
}

const restorePoints = (moved: Moved[]) => moved.flatMap(move => (move.restorePoint === undefined ? [] : [move.restorePoint]))

const told = ({ tag, restorePoint }: Moved) => (restorePoint === undefined ? tag : `${tag} (restore point ${restorePoint.name} at ${restorePoint.lsn})`)

/** Exits as `up` would: 2 when it would refuse. */
async function plan(terminal: Terminal, context: MigrateContext, withSql: boolean): Promise<number> {
  const { pending, problems } = await planMigrations(context)
  const machine = { pending: pending.map(({ statements, ...file }) => (withSql ? { ...file, statements } : file)), problems }
  const refusals = problems.map(problem => `  ${problem.tag}: ${problem.message}; ${problem.remedy}`)
  const lines = [
    ...(problems.length > 0 ? ['up would refuse, and change nothing:', ...refusals, ''] : []),
    pending.length === 0 ? 'nothing to apply' : `${pending.length} to apply, in this order:`,
    ...pending.flatMap(file => planLines(file, withSql)),
  ]
  answer(terminal, machine, lines.join('\n'))
  return problems.length > 0 ? exitCodes.refused : exitCodes.ok
}

function planLines(file: PlannedMigration, withSql: boolean): string[] {
  const marks = [...(file.destructive ? ['deletes data'] : []), ...(file.transactional ? [] : ['without a transaction'])]
  // What is not there yet nobody else can wait for.
  const locks = file.locks.filter(lock => lock.exists)
  return [
    `${file.tag}${marks.length > 0 ? ` (${marks.join(', ')})` : ''}`,
    ...locks.map(({ table, lock, stops, rows }) => {
      const size = rows === null ? 'never analyzed' : `about ${rows} rows`
      return `  ${lock} on ${table} (${size}): ${stops === null ? 'reads and writes go on' : `stops ${stops}`}`
    }),
    ...(locks.length === 0 && file.unknown.length === 0 ? ['  no locks on what is there now'] : []),
    ...file.unknown.map(what => `  unknown, ${what}`),
    ...(withSql ? file.statements.flatMap(statement => ['', statement]) : []),
  ]
}

async function verify(terminal: Terminal, context: MigrateContext): Promise<number> {
  const report = await verifyMigrations(context).catch(error => {
    if (terminal.json) terminal.out(JSON.stringify({ ok: false, error: { code: codeOf(error) ?? 'unknown', message: messageOf(error) } }))
    else terminal.say(`could not verify: ${messageOf(error)}`)
    return undefined
  })
  if (report === undefined) return exitCodes.unverified
  const lines = report.problems.map(problem => `${problem.tag}: ${problem.message}; ${problem.remedy}`)
  for (const note of report.notes ?? []) terminal.say(note)
  answer(terminal, report, report.ok ? 'the database is what the files say' : lines.join('\n'))
  return report.ok ? exitCodes.ok : exitCodes.different
}
