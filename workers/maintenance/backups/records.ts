import type { Query } from '../../../src/database.ts'
import type { Stored, Verification } from './manifest.ts'

/** What became of the proof of a backup, as far as it is known. */
export type Found = { verification?: Verification; verify_error?: string }

/** What `pawl.record_backup` and `pawl.finish_backup` take. */
export function recordOf({ manifest }: Stored, place: string, found: Found, runId?: string): string {
  return JSON.stringify({ manifest, place, ...(runId === undefined ? {} : { run_id: runId }), ...found })
}

/** Writes a backup down in `pawl.backups`, or what became of its proof. */
export async function recordBackup(query: Query, record: string): Promise<void> {
  await query('select pawl.record_backup($1)', [record])
}

/** Writes down in `pawl.backups` that a backup is gone from the store. */
export async function recordRemoved(query: Query, name: string): Promise<void> {
  await query('update pawl.backup_records set deleted_at = now() where backup_id = $1 and deleted_at is null', [name])
}
