import { grantBoss, installBoss } from '../../src/boss.ts'
import { systemClock } from '../../src/clock.ts'
import type { Config } from '../../src/config.ts'
import { codeOf, messageOf } from '../../src/errors.ts'
import type { Log } from '../../src/log.ts'
import { type MigrateContext, migrateDown, migrateUp, migrationStatus, migrationsDir, verifyMigrations } from '../../src/migrate.ts'
import { answer, type Command, exitCodes, type Terminal, usageError, type Values } from '../run.ts'
import { withDatabaseUrl } from './connect.ts'
import { table } from '../table.ts'

/** Applies pg-boss's schema, our files, and the grants between them; what `pawl dev` and the migration Job do. */
export async function upgrade(config: Config, log: Log): Promise<string[]> {
  const context = contextOf(config, log)
  const moved = await migrateUp(context, {
    before: async query => {
      await installBoss(config, log)
      await grantBoss(query)
    },
  })
  return moved.map(move => move.tag)
}

function contextOf(config: Config, log: Log): MigrateContext {
  return { config, log, clock: systemClock, dir: migrationsDir(config) }
}

const USAGE = 'migrate up|down [N]|status|verify'

/** `pawl migrate …` */
export const migrate: Command = {
  usage: USAGE,
  summary: 'bring the schema up, back, or check it against the files',
  example: 'pawl migrate status --json',
  quiet: true,
  options: { 'allow-data-loss': { type: 'boolean' } },
  async run(terminal, values, [verb, steps]) {
    const config = await withDatabaseUrl(terminal.config)
    switch (verb) {
      case 'up': {
        const applied = await upgrade(config, terminal.log)
        answer(terminal, { applied }, applied.length === 0 ? 'nothing to apply' : applied.map(tag => `applied ${tag}`).join('\n'))
        return exitCodes.ok
      }
      case 'down':
        return down(terminal, contextOf(config, terminal.log), steps, values)
      case 'status': {
        const migrations = await migrationStatus(contextOf(config, terminal.log))
        const rows = migrations.map(({ tag, state, appliedAt, appliedBy }) => ({
          state,
          migration: tag,
          applied_at: appliedAt?.toISOString() ?? '',
          applied_by: appliedBy ?? '',
        }))
        answer(terminal, { migrations }, table(rows))
        return exitCodes.ok
      }
      case 'verify':
        return verify(terminal, contextOf(config, terminal.log))
      default:
        throw usageError(verb === undefined ? 'migrate needs a verb' : `migrate has no verb "${verb}"`, `usage: pawl ${USAGE}`)
    }
  },
}

async function down(terminal: Terminal, context: MigrateContext, steps: string | undefined, values: Values): Promise<number> {
  const count = Number(steps ?? 1)
  if (!Number.isInteger(count) || count < 1) throw usageError(`"${steps}" is no number of migrations`, `usage: pawl ${USAGE}`)
  const moved = await migrateDown(context, { steps: count, allowDataLoss: values['allow-data-loss'] === true })
  answer(terminal, { taken_back: moved.map(move => move.tag) }, moved.map(move => `took back ${move.tag}`).join('\n'))
  return exitCodes.ok
}

async function verify(terminal: Terminal, context: MigrateContext): Promise<number> {
  const report = await verifyMigrations(context).catch(error => {
    if (terminal.json) terminal.out(JSON.stringify({ ok: false, error: { code: codeOf(error) ?? 'unknown', message: messageOf(error) } }))
    else terminal.say(`could not verify: ${messageOf(error)}`)
    return undefined
  })
  if (report === undefined) return exitCodes.unverified
  const lines = report.problems.map(problem => `${problem.tag}: ${problem.message}; ${problem.remedy}`)
  answer(terminal, report, report.ok ? 'the database is what the files say' : lines.join('\n'))
  return report.ok ? exitCodes.ok : exitCodes.different
}
