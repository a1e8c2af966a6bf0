import type { Database, Query } from '../../src/database.ts'
import { codeOf, messageOf, PawlError } from '../../src/errors.ts'
import type { Column } from './source.ts'
import { quoted } from '../../src/names.ts'
import type { Prepared } from './step.ts'
import type { Target } from './target.ts'

/** The unlogged table that one extraction is read into, and the difference computed from it. */
export type Staging = { relation: string; difference: string; columns: readonly (Column & { collation?: string | null })[] }

/** Where the step's present extraction is staged. */
export function stagingNames({ refresh_run, config_id, extraction }: Pick<Prepared, 'refresh_run' | 'config_id' | 'extraction'>): Omit<Staging, 'columns'> {
  const name = `refresh_${refresh_run}_${config_id}_${extraction}`
  return { relation: `pawl_stage.${name}`, difference: `pawl_stage.${name}_difference` }
}

/** What an extraction of these columns stages: where the target has them too, of its type and collation, since values of two collations can't be compared. */
export function stagingOf(step: Prepared, columns: readonly Column[], target: Target): Staging {
  const typed = columns.map(column => {
    const own = target.columns.find(({ name: existing }) => existing === column.name)
    return { name: column.name, type: own?.type ?? column.type, collation: own?.collation ?? null }
  })
  return { ...stagingNames(step), columns: typed }
}

/** The staging of the step's present extraction, as its table stands; without columns where it is gone. */
export async function stagingAsMade(query: Query, step: Prepared): Promise<Staging> {
  const names = stagingNames(step)
  const columns = await query<Column>(
    `select a.attname as name, format_type(a.atttypid, a.atttypmod) as type from pg_attribute a
     where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped order by a.attnum`,
    [names.relation],
  )
  return { ...names, columns }
}

/** Makes the staging table, empty. UNLOGGED: what a crash of the server empties is noticed by `countStaged` and read again. */
export async function createStaging(query: Query, { relation, columns }: Staging): Promise<void> {
  await query(`drop table if exists ${relation}`)
  // Read once from one end to the other: autovacuum has nothing to gain here, and would hold up what wants to drop it.
  await query(`create unlogged table ${relation} (${columns.map(columnSql).join(', ')}) with (autovacuum_enabled = false)`)
}

/** The statement that stages the rows of a query, which never leave the server. */
export function fillSql({ relation, columns }: Staging, query: string): string {
  const names = columns.map(({ name }) => quoted(name)).join(', ')
  return `insert into ${relation} (${names}) select ${names} from (${query}\n) q`
}

function columnSql({ name, type, collation }: Staging['columns'][number]): string {
  return `${quoted(name)} ${type}${typeof collation === 'string' ? ` collate ${collation}` : ''}`
}

/** Rows in the staging table, null when it is gone, and rows that the run's checkpoints say were read into it. */
export async function countRows(query: Query, step: Prepared): Promise<{ staged: number | null; read: number; lanes: number }> {
  const { relation } = stagingNames(step)
  const [cut] = await query<{ read: number; lanes: number; present: boolean }>(
    `select coalesce(sum(done), 0)::bigint as read, count(*) as lanes, to_regclass($2) is not null as present from pawl.lanes where run_id = $1`,
    [step.run_id, relation],
  )
  const { read = 0, lanes = 0, present = false } = cut ?? {}
  if (!present) return { staged: null, read, lanes }
  const [row] = await query<{ staged: number }>(`select count(*) as staged from ${relation}`)
  return { staged: row?.staged ?? 0, read, lanes }
}

/** The columns of a query, asked of the server without running it. Throws `refresh.query` when it is none that can be read from. */
export async function describeQuery(db: Pick<Database, 'describe' | 'query'>, table: string, text: string): Promise<Column[]> {
  const columns = await db.describe(text).catch((error: unknown) => {
    // Class 42 (no such column, no right to see it …) and 0A (a WITH that writes) do not get better by themselves.
    if (!/^(42|0A)/.test(codeOf(error) ?? '')) throw error
    throw new PawlError('refresh.query', `the query of ${table} can not be read from: ${messageOf(error)}`, {
      hint: '"query" in custom_sync_params must be one SELECT; mend it, then retry the run',
      cause: error,
    })
  })
  const twice = columns.find(({ name }, place) => columns.findIndex(other => other.name === name) < place)
  if (twice !== undefined) {
    throw new PawlError('refresh.query', `the query of ${table} gives column ${twice.name} twice`, {
      hint: 'name each column once, with "as"; then retry the run',
    })
  }
  const types = await db.query<{ type: string }>(
    'select format_type(type, modifier) as type from unnest($1::oid[], $2::integer[]) with ordinality given (type, modifier, place) order by place',
    [columns.map(({ type }) => type), columns.map(({ modifier }) => modifier)],
  )
  return columns.map(({ name }, place) => ({ name, type: types[place]?.type ?? 'text' }))
}

export async function dropStaging(query: Query, { relation, difference }: Pick<Staging, 'relation' | 'difference'>): Promise<void> {
  await query(`drop table if exists ${difference}, ${relation}`)
}
