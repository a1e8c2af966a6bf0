import { connectDirect, type Query } from '../../../src/database.ts'
import { codeOf, messageOf, PawlError } from '../../../src/errors.ts'
import { databaseUrl } from '../../../src/libpq.ts'
import { quoted } from '../../../src/names.ts'
import { queues } from '../../../src/queues.ts'
import type { Store } from '../../../src/store.ts'
import { requireSame } from './compare.ts'
import type { BackupContext } from './context.ts'
import type { Manifest, Stored } from './manifest.ts'
import { checkManifest, pour } from './pour.ts'
import { connectMaintenance, isScratchName, type Scratch, withScratch } from './scratch.ts'

export type RestoreOptions = {
  /** The name of the database, on the server of DATABASE_DIRECT_URL. It may be there, empty. */
  into: string
  identities: readonly string[]
  /** With owners and grants, whose roles must be there; otherwise everything belongs to who restores, and nobody else may use it. */
  owners: boolean
  /** Compare all of it with the manifest before the database gets its name. */
  verify?: boolean
}

/**
 * Restores into a scratch database, pauses every queue in it, and only then gives it its name: no worker can be on it before. What fails
 * leaves nothing behind. Throws `restore.exists`, `restore.roles`, `restore.server`, and what `pour` and `requireSame` throw.
 */
export async function restoreBackup(context: BackupContext, store: Store, stored: Stored, options: RestoreOptions): Promise<void> {
  const { manifest } = stored
  const url = context.config.directUrl
  await checkManifest(store, stored)
  await checkTarget(context, url, stored, options)
  await withScratch(context, url, manifest.locale, async scratch => {
    await pour(context, store, stored, scratch, { identities: options.identities, owners: options.owners, purpose: 'restore' })
    if (options.verify === true) await requireSame(context, manifest, scratch)
    const paused = await pauseAll(context, manifest, scratch)
    scratch.signal.throwIfAborted()
    await giveName(scratch, options.into)
    context.log.info({ backup: manifest.name, database: options.into, paused_queues: paused, tables: manifest.tables.length }, 'backup restored')
  })
}

/** Everything that can be refused is refused before anything is made. */
async function checkTarget(context: BackupContext, url: string | undefined, { manifest }: Stored, { into, owners }: RestoreOptions): Promise<void> {
  const connection = await connectMaintenance(context.config, url)
  try {
    if (into === '' || Buffer.byteLength(into) > 63) {
      throw new PawlError('restore.name', `"${into}" can't be the name of a database`, { hint: 'name one of 1 to 63 bytes' })
    }
    if (isScratchName(into)) {
      throw new PawlError('restore.name', `${into} is a name of scratch databases, and the next cleanup would drop it`, { hint: 'name another' })
    }
    if (owners) await requireRoles(connection.query, manifest)
    const [existing] = await connection.query<{ allowed: boolean }>(
      `select datallowconn and not datistemplate as allowed from pg_database where datname = $1`,
      [into],
    )
    if (existing === undefined) return
    if (!existing.allowed || !(await isEmpty(context, databaseUrl(url ?? '', into)))) throw exists(into)
  } finally {
    await connection.close()
  }
}

async function requireRoles(query: Query, manifest: Manifest): Promise<void> {
  const missing = await query<{ name: string }>(
    `select name from unnest($1::text[]) name where name <> 'public' and not exists (select from pg_roles where rolname = name) order by name`,
    [manifest.roles],
  )
  if (missing.length === 0) return
  const names = missing.map(row => row.name)
  const { roles } = manifest.files
  const file = roles === undefined ? '' : `; ${roles.key} in the store has them`
  throw new PawlError('restore.roles', `${manifest.name} needs roles that this server does not have: ${names.join(', ')}`, {
    hint: `create them (${names.map(name => `create role ${quoted(name)}`).join('; ')}${file}), or say --no-owners`,
  })
}

/** Nothing that a person or a program has made in it: no relation, no function, no type, no schema. */
async function isEmpty(context: BackupContext, url: string): Promise<boolean> {
  const connection = await connectDirect({ ...context.config, directUrl: url }, 'pawl restore')
  try {
    const [row] = await connection.query<{ empty: boolean }>(`
      with made as (
        select oid, relnamespace as namespace, 'pg_class'::regclass as catalog from pg_class
        union all select oid, pronamespace, 'pg_proc'::regclass from pg_proc
        union all select oid, typnamespace, 'pg_type'::regclass from pg_type
      )
      select not exists (
        select from made join pg_namespace n on n.oid = made.namespace
        where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
          and not exists (select from pg_depend d where d.classid = made.catalog and d.objid = made.oid and d.deptype = 'e')
      ) and not exists (select from pg_namespace where nspname !~ '^pg_' and nspname not in ('information_schema', 'public'))
        and not exists (select from pg_largeobject_metadata) as empty`)
    return row?.empty === true
  } finally {
    await connection.close()
  }
}

function exists(into: string): PawlError {
  return new PawlError('restore.exists', `the database ${into} exists, and is not empty`, {
    hint: `name another with --into; to put it in its place: alter database ${quoted(into)} rename to ${quoted(`${into}_before`)}`,
  })
}

/**
 * The runs, timers and schedules of the snapshot would all begin again with the first worker, the original's beside them. Queues of this release
 * that the copy does not have yet would come with its next migration. A queue that was paused before keeps its reason.
 */
async function pauseAll(context: BackupContext, manifest: Manifest, scratch: Scratch): Promise<number> {
  const connection = await connectDirect({ ...context.config, directUrl: scratch.url }, 'pawl restore')
  try {
    const [there] = await connection.query<{ pawl: boolean; boss: boolean; kinds: boolean }>(
      `select to_regclass('pawl.paused_queues') is not null as pawl, to_regclass('pgboss.queue') is not null as boss, to_regclass('pawl.kinds') is not null as kinds`,
    )
    if (there?.pawl !== true) return 0
    const rows = await connection.query(
      `insert into pawl.paused_queues (queue, reason)
       select queue, $2
       from (
         select unnest($1::text[]) as queue
         ${there.kinds ? 'union select queue from pawl.kinds' : ''}
         ${there.boss ? `union select q.name from pgboss.queue q where q.dead_letter is not null` : ''}
       ) every
       on conflict (queue) do nothing
       returning queue`,
      [queues.map(queue => queue.name), `restored from ${manifest.name}`],
    )
    return rows.length
  } finally {
    await connection.close()
  }
}

/** An empty database of that name makes room; its owner becomes this one's. */
async function giveName({ query, name }: Scratch, into: string): Promise<void> {
  try {
    const [former] = await query<{ owner: string }>('select pg_get_userbyid(datdba) as owner from pg_database where datname = $1', [into])
    if (former !== undefined) {
      await query(`drop database ${quoted(into)}`)
      await query(`alter database ${name} owner to ${quoted(former.owner)}`)
    }
    await query(`grant connect, temporary on database ${name} to public`)
    await query(`alter database ${name} rename to ${quoted(into)}`)
  } catch (error) {
    // object_in_use, duplicate_database: somebody was quicker.
    if (!['55006', '42P04'].includes(codeOf(error) ?? '')) throw error
    throw new PawlError('restore.exists', `the database ${into} is in use: ${messageOf(error)}`, {
      hint: 'end its sessions, or name another with --into',
      cause: error,
    })
  }
}
