import type { Command } from '../run.ts'
import { backup } from './backup.ts'
import { backups } from './backups.ts'
import { campaign } from './campaign.ts'
import { dev } from './dev.ts'
import { health } from './health.ts'
import { migrate } from './migrate.ts'
import { optimize } from './optimize.ts'
import { override } from './override.ts'
import { partitions } from './partitions.ts'
import { refresh } from './refresh.ts'
import { report } from './report.ts'
import { restore } from './restore.ts'
import { status } from './status.ts'
import { cancel, pause, resume, retry, why } from './steer.ts'
import { work } from './work.ts'

/** The door's table: what can be asked of Pawl from a shell. */
export const commands: Readonly<Record<string, Command>> = {
  work,
  dev,
  migrate,
  status,
  override,
  campaign,
  refresh,
  report,
  why,
  cancel,
  retry,
  pause,
  resume,
  backup,
  restore,
  backups,
  health,
  optimize,
  partitions,
}
