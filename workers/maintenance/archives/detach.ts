import { connectDirect, type DirectConnection } from '../../../src/database.ts'
import { codeOf, messageOf, PawlError } from '../../../src/errors.ts'
import { type Archiving, mark, type Started, untilFree } from './archiving.ts'

/** A page of executions whose log lines go ahead of them. */
const PAGE = 500
/** How long a try waits for a lock; whoever comes behind it waits as long. */
const LOCK_TIMEOUT = '50ms'
/** Passes over what refers to the month; a second one finds what was added during the first. */
const PASSES_MAX = 3

/** Makes the month a table by itself. Nobody waits for it longer than a try does. */
export async function detach(archiving: Archiving, begun: Started): Promise<void> {
  for (let pass = 1; ; pass += 1) {
    await moveDependents(archiving)
    try {
      return begun.concurrently ? await detachConcurrently(archiving, begun) : await detachPlainly(archiving)
    } catch (error) {
      if (codeOf(error) !== '23503') throw error
      if (pass === PASSES_MAX) {
        throw new PawlError('archive.referenced', `rows of ${begun.partition} are referred to: ${messageOf(error)}`, {
          hint: `archive or delete what refers to them first, then: select pawl.retry('${archiving.run.runId}')`,
          cause: error,
        })
      }
    }
  }
}

async function moveDependents(archiving: Archiving): Promise<void> {
  const { db, run } = archiving
  for (;;) {
    const moved = await untilFree(archiving, 'what refers to the month is in use', async () => {
      const [row] = await db.query<{ moved: number }>('select pawl.move_dependents($1, $2, $3) as moved', [run.runId, run.epoch, PAGE])
      return row?.moved ?? 0
    })
    if (moved === 0) return
  }
}

/** A worker that doesn't own the table: a function of its owner does it, under a lock that is not waited for. */
function detachPlainly(archiving: Archiving): Promise<void> {
  return untilFree(archiving, 'the partitioned table is in use', () => noteDetached(archiving, true))
}

async function noteDetached({ db, run }: Archiving, alsoDetach: boolean): Promise<void> {
  await db.query('select pawl.detach_archive($1, $2, $3)', [run.runId, run.epoch, alsoDetach])
}

/**
 * Two transactions with a wait between them. Broken off in the wait, by us or by a death, the partition stays "detaching": it is no part of
 * the table any more for those who come now, and FINALIZE takes it the rest of the way. One partition of a table at a time, so that another
 * run's is taken that way first.
 */
async function detachConcurrently(archiving: Archiving, { parent, partition, relation }: Started): Promise<void> {
  let connection: DirectConnection | undefined
  try {
    await untilFree(archiving, 'the partitioned table is in use', async () => {
      connection ??= await open(archiving)
      try {
        await take(connection, parent, relation)
      } catch (error) {
        if (codeOf(error) === undefined || /^(08|57P)/.test(codeOf(error) ?? '')) connection = undefined
        throw error
      }
    })
  } finally {
    await connection?.close()
  }
  archiving.log.info({ partition }, 'partition detached')
  await untilFree(archiving, 'the detached table is in use', () => noteDetached(archiving, false))
}

async function open({ config, run }: Archiving): Promise<DirectConnection> {
  const connection = await connectDirect(config, `pawl ${run.runId}`)
  await connection.query(`set lock_timeout = '${LOCK_TIMEOUT}'; set statement_timeout = 0`)
  await mark(connection.query, run.runId)
  return connection
}

async function take({ query }: DirectConnection, parent: string, relation: string): Promise<void> {
  for (;;) {
    const [standing] = await query<{ name: string; pending: boolean; ours: boolean }>(
      `select i.inhrelid::regclass::text as name, i.inhdetachpending as pending, i.inhrelid = to_regclass($2) as ours
       from pg_inherits i where i.inhparent = to_regclass($1) and (i.inhdetachpending or i.inhrelid = to_regclass($2)) order by 2 desc limit 1`,
      [parent, relation],
    )
    if (standing === undefined) return
    if (standing.pending) await query(`alter table ${parent} detach partition ${standing.name} finalize`)
    else await query(`alter table ${parent} detach partition ${relation} concurrently`)
  }
}
