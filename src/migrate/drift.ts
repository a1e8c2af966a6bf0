import type { Query } from '../database.ts'
import { type Problem, problem } from './files.ts'
import { readStructure, type StructureObject } from './structure.ts'

type Structure = ReadonlyMap<string, StructureObject>

/** What the migrations have left, as `pawl.schema_objects` has it. */
type Recorded = { definition: string; parent: string | null }

const ACCEPT = 'put it back, or take it as right: pawl migrate verify --accept'

/** Remembers what is there, so that `recordChanges` can tell what a file has made of it. */
export function structureBefore(query: Query): Promise<Structure> {
  return inTransaction(query, () => readStructure(query))
}

/**
 * Records what a file has made, changed or dropped, and nothing else: what somebody changed by hand before stays what it is, a difference.
 * Belongs into the transaction of the file.
 */
export async function recordChanges(query: Query, before: Structure): Promise<void> {
  const after = await readStructure(query)
  const gone = [...before.keys()].filter(name => !after.has(name))
  const isMade = ({ name, definition }: StructureObject) => before.get(name)?.definition !== definition
  // A table put in another's place is made with all its parts, also those that are as they were in the other.
  const remade = new Set([...after.values()].filter(object => object.parent === null && isMade(object)).map(({ name }) => name.slice(name.indexOf(' ') + 1)))
  const made = [...after.values()].filter(object => isMade(object) || (object.parent !== null && remade.has(object.parent)))
  await write(query, made, gone)
}

async function write(query: Query, made: StructureObject[], gone: string[]): Promise<void> {
  await query('delete from pawl.schema_objects where object = any ($1)', [gone])
  await query(
    `insert into pawl.schema_objects (object, parent, definition, server_major)
    select object, parent, definition, current_setting('server_version_num')::integer / 10000
    from unnest($1::text[], $2::text[], $3::text[]) made (object, parent, definition)
    on conflict (object) do update set definition = excluded.definition, server_major = excluded.server_major, recorded_at = now()`,
    [made.map(object => object.name), made.map(object => object.parent), made.map(object => object.definition)],
  )
}

async function readRecord(query: Query): Promise<{ recorded: Map<string, Recorded>; major: number | undefined }> {
  const [table] = await query<{ present: boolean }>(`select to_regclass('pawl.schema_objects') is not null as present`)
  if (!table?.present) return { recorded: new Map(), major: undefined }
  const rows = await query<{ object: string; parent: string | null; definition: string; server_major: number }>(
    'select object, parent, definition, server_major from pawl.schema_objects',
  )
  return { recorded: new Map(rows.map(row => [row.object, row])), major: rows[0]?.server_major }
}

/** Where the structure is another than the migrations left it. `outdated`: recorded on that other major version, whose texts can't be compared. */
export async function findDrift(query: Query): Promise<{ problems: Problem[]; outdated?: number }> {
  return inTransaction(query, async () => {
    const { recorded, major } = await readRecord(query)
    if (recorded.size === 0) {
      return {
        problems: [problem('drifted', 'structure', 'what the migrations made was never recorded', 'see that it is right, then: pawl migrate verify --accept')],
      }
    }
    const [server] = await query<{ major: number }>(`select current_setting('server_version_num')::integer / 10000 as major`)
    if (major !== undefined && major !== server?.major) return { problems: [], outdated: major }
    return { problems: differences(recorded, await readStructure(query)) }
  })
}

function differences(recorded: ReadonlyMap<string, Recorded>, present: Structure): Problem[] {
  const drifted = (name: string, message: string) => problem('drifted', name, message, ACCEPT)
  const lost = [...recorded].flatMap(([name, { definition, parent }]) => {
    const now = present.get(name)
    if (name.startsWith('column ') && isRefreshed(parent)) return []
    // One line for a table that is gone, not one for each of its parts.
    if (now === undefined) return parent === null || stands(parent, present) ? [drifted(name, `gone; it was: ${told(definition)}`)] : []
    const difference = now.kind === 'grants' ? differenceOfGrants(definition, now) : differenceOf(definition, now.definition)
    return difference === undefined ? [] : [drifted(name, difference)]
  })
  const added = [...present.values()].flatMap(({ name, kind, schema, parent, definition, matters }) => {
    if (recorded.has(name) || !matters || (kind === 'column' && isRefreshed(parent))) return []
    // The whole of a schema of ours, or a part of what is ours; what a host or a user adds beside it is theirs.
    const ours = parent === null ? WHOLLY_OURS.includes(schema) : stands(parent, recorded)
    return ours ? [drifted(name, `no migration has made it: ${told(definition)}`)] : []
  })
  return [...lost, ...added].sort((a, b) => (a.tag < b.tag ? -1 : 1))
}

const WHOLLY_OURS = ['pawl', 'reporting']

/** The columns of these follow their source, by the policy of each (document 003). */
const isRefreshed = (table: string | null) => table !== null && table.startsWith('sqp.') && !table.startsWith('sqp.refresh_')

const stands = (parent: string, objects: ReadonlyMap<string, unknown>) =>
  ['table', 'view', 'sequence', 'function'].some(kind => objects.has(`${kind} ${parent}`))

const told = (definition: string) => (definition.includes('md5:') ? definition.replace(/ ?md5:.*/, '') || 'another text' : definition)

function differenceOf(was: string, is: string): string | undefined {
  if (was === is) return undefined
  return was.includes('md5:') ? 'its text was changed' : `it is "${is}" and was "${was}"`
}

/** More rights than were granted are nobody's mistake, unless everybody has them. */
function differenceOfGrants(was: string, { definition, matters }: StructureObject): string | undefined {
  const [before, now] = [was.split(', '), definition.split(', ')]
  const taken = before.filter(right => !now.includes(right))
  if (taken.length > 0) return `no longer granted: ${taken.join(', ')}`
  const given = now.filter(right => !before.includes(right))
  return matters && given.length > 0 ? `granted by no migration: ${given.join(', ')}` : undefined
}

/**
 * Records what is there as right: of what is recorded, and of all that stands in schemas of ours. Only under the migration lock.
 * What a host has in `public` beside it was never ours.
 */
export async function acceptStructure(query: Query): Promise<void> {
  await inTransaction(query, async () => {
    const { recorded } = await readRecord(query)
    const present = await readStructure(query)
    const ours = ({ schema, parent, matters }: StructureObject) => WHOLLY_OURS.includes(schema) || (matters && parent !== null && stands(parent, recorded))
    await write(
      query,
      [...present.values()].filter(object => recorded.has(object.name) || ours(object)),
      [...recorded.keys()].filter(name => !present.has(name)),
    )
  })
}

async function inTransaction<Result>(query: Query, work: () => Promise<Result>): Promise<Result> {
  await query(`begin isolation level repeatable read; set local lock_timeout = '3s'`)
  try {
    const result = await work()
    await query('commit')
    return result
  } catch (error) {
    await query('rollback').catch(() => {})
    throw error
  }
}
