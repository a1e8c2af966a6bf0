import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectDirect } from '../../../src/database.ts'
import { codeOf } from '../../../src/errors.ts'
import { startTool, type Tools } from '../../../src/tools.ts'
import type { BackupContext } from './context.ts'
import type { Scratch } from './scratch.ts'

/** A line of `pg_restore --list`: `4711; 3466 16999 EVENT TRIGGER - name owner`. */
const EVENT_TRIGGER = /^\d+; \d+ \d+ (?:EVENT TRIGGER|(?:COMMENT|SECURITY LABEL) - EVENT TRIGGER) (?:- )?(\S+)/

/**
 * Lets `use` have the arguments that make pg_restore leave out event triggers, where this login may not make any: that takes a superuser on
 * most servers, and Pawl's own schema has one. What can't be read of `archive` is left to who reads all of it.
 */
export async function withinRights<Result>(
  context: BackupContext,
  tools: Tools,
  archive: () => AsyncIterable<Uint8Array>,
  scratch: Scratch,
  use: (args: string[], leftOut: string[]) => Promise<Result>,
): Promise<Result> {
  if (await mayMakeEventTriggers(context, scratch)) return use([], [])
  // Only the table of contents is read: it stands first.
  const list = await listOf(tools, archive(), scratch).catch(() => '')
  const lines = list.split('\n')
  const kept = lines.filter(line => !EVENT_TRIGGER.test(line))
  if (kept.length === lines.length) return use([], [])
  const leftOut = lines.flatMap(line => EVENT_TRIGGER.exec(line)?.[1] ?? [])
  const folder = await mkdtemp(join(tmpdir(), 'pawl-restore-'))
  try {
    const path = join(folder, 'list')
    await writeFile(path, kept.join('\n'), { mode: 0o600 })
    return await use([`--use-list=${path}`], [...new Set(leftOut)])
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Tried rather than looked up: some providers let others than superusers make them. */
async function mayMakeEventTriggers(context: BackupContext, scratch: Scratch): Promise<boolean> {
  const connection = await connectDirect({ ...context.config, directUrl: scratch.url }, 'pawl scratch')
  try {
    await connection.query(`
      begin;
      create function public.pawl_probe() returns event_trigger language plpgsql as 'begin end';
      create event trigger pawl_probe on ddl_command_end execute function public.pawl_probe()`)
    return true
  } catch (error) {
    if (codeOf(error) === '42501') return false
    throw error
  } finally {
    // Its end rolls back what was tried.
    await connection.close()
  }
}

async function listOf(tools: Tools, archive: AsyncIterable<Uint8Array>, scratch: Scratch): Promise<string> {
  const listing = startTool(tools, 'pg_restore', ['--list'], { url: scratch.url, signal: scratch.signal, input: archive })
  const pieces: Uint8Array[] = []
  for await (const piece of listing.output) pieces.push(piece)
  return Buffer.concat(pieces).toString()
}
