import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { readConfig } from '../../src/config.ts'
import type { Query } from '../../src/database.ts'
import { migrationsDir } from '../../src/migrate.ts'

/** What every batch, claim or beat reads or writes: each release adds a column to one of them, and an index over it. */
const TABLES = [
  'pawl.lanes',
  'public.category_recipient_settings',
  'pawl.checkpoints',
  'public.recipients',
  'public.campaign_timers',
  'pawl.leases',
  'pawl.refresh_steps',
  'public.category_override_operations',
  'public.campaigns',
  'pawl.kinds',
]

/** What workers call all the time: each release replaces one of them, with the same signature. */
const ROUTINES = [
  'hold',
  'fire_timers',
  'apply_override_batch',
  'advance',
  'open_run',
  'beat',
  'enqueue',
  'release',
  'stop_reason',
  'finish',
  'apply_override_batches',
]

type Files = Record<string, string>
type Journal = { entries: { idx: number; when: number; tag: string }[] }

/**
 * The project's migrations as version 0, and as many releases after it, each of which only adds (expand first): a nullable column on a hot table, another
 * text of a hot function, a further column at the end of `pawl.runs`, an index built concurrently, and now and then a backfill. The directory of each, by number.
 */
export async function writeVersions(query: Query, releases: number): Promise<string[]> {
  const root = await mkdtemp(join(tmpdir(), 'pawl-rolling-'))
  onTestFinished(() => rm(root, { recursive: true, force: true }))
  const directories = Array.from({ length: releases + 1 }, (_, version) => join(root, `version-${version}`))
  const routines = await readRoutines(query)
  const [view] = await query<{ text: string }>(`select set_config('search_path', '', true), pg_get_viewdef('pawl.runs'::regclass) as text`)
  let before = migrationsDir(readConfig({}))
  for (const [version, directory] of directories.entries()) {
    await cp(before, directory, { recursive: true })
    if (version > 0) await addFiles(directory, version, release(version, routines, view?.text ?? ''))
    before = directory
  }
  return directories
}

/** Without a search_path every name in the texts is qualified, as it must be where migrations run. */
async function readRoutines(query: Query): Promise<ReadonlyMap<string, string>> {
  const rows = await query<{ name: string; text: string }>(
    `select set_config('search_path', '', true), proname as name, pg_get_functiondef(oid) as text from pg_proc where pronamespace = 'pawl'::regnamespace and proname = any ($1)`,
    [ROUTINES],
  )
  if (rows.length !== ROUTINES.length) throw new Error(`of ${ROUTINES.join(', ')} there are only ${rows.map(row => row.name).join(', ')}`)
  return new Map(rows.map(({ name, text }) => [name, text]))
}

/** The two files of a release: what fits into one transaction, and the index, which does not. */
function release(version: number, routines: ReadonlyMap<string, string>, runs: string): Files {
  const table = TABLES[version % TABLES.length] ?? ''
  const routine = routines.get(ROUTINES[version % ROUTINES.length] ?? '') ?? ''
  const changed = routine.replace(/\bbegin\b/, `begin\n  -- As of version ${version}.`)
  if (changed === routine) throw new Error(`no begin in ${routine}`)
  const columns = Array.from({ length: version }, (_, place) => `, ${place + 1} as since_${place + 1}`).join('')
  const statements = [
    `-- Version ${version}.\nalter table ${table} add column rolled_${version} integer`,
    changed,
    `create or replace view pawl.runs as select older.*${columns} from (${runs.replace(/;\s*$/, '')}) older`,
    ...(table === 'public.recipients' ? [`select pawl.request_backfill('${table}', 'rolled_${version} = ${version}', 'rolled_${version} is null')`] : []),
  ]
  return {
    expand: statements.join('\n--> statement-breakpoint\n'),
    index: `-- pawl:no-transaction\n-- Version ${version}.\ncreate index concurrently if not exists rolled_${version} on ${table} (rolled_${version})`,
  }
}

async function addFiles(directory: string, version: number, files: Files): Promise<void> {
  const path = join(directory, 'meta', '_journal.json')
  const journal = JSON.parse(await readFile(path, 'utf8')) as Journal
  for (const [name, text] of Object.entries(files)) {
    const last = journal.entries.at(-1)
    if (last === undefined) throw new Error('the journal is empty')
    const tag = `9${String(version).padStart(3, '0')}_${name}`
    journal.entries.push({ ...last, idx: last.idx + 1, when: last.when + 1, tag })
    await writeFile(join(directory, `${tag}.sql`), text)
    // Nobody takes a release's schema back here: a rollback is one of the workers, and the schema stays.
    await writeFile(join(directory, 'down', `${tag}.sql`), 'select 1')
  }
  await writeFile(path, JSON.stringify(journal))
}
