import { quoted } from '../../src/names.ts'

/** What the difference between staged rows and the table is made of; all names as they are, unquoted. */
export type Comparison = {
  staging: string
  difference: string
  /** The table, quoted. */
  relation: string
  key: readonly string[]
  /** The staged columns that the table has too and does not compute, key included, each with whether `=` tells its values apart. */
  columns: readonly { name: string; comparable: boolean }[]
  strategy: 'merge' | 'window' | 'append'
  /** For `window`: the rows of the table that are replaced. */
  within: string | undefined
}

/**
 * One FULL JOIN that says of each row what would be done with it: `i`nsert, `u`pdate, `d`elete; unchanged rows are left out.
 * The new values are kept beside it, so that applying it needs the staging table no more. One form for PostgreSQL 15 to 18: no
 * MERGE … RETURNING, and no xmax, which partitioned tables don't have.
 */
export function differenceSql({ staging, difference, relation, key, columns, strategy, within }: Comparison): string {
  const head = `create unlogged table ${difference} with (autovacuum_enabled = false) as\n`
  if (strategy === 'append') {
    const known = key.map(name => `t.${quoted(name)} = s.${quoted(name)}`).join(' and ')
    return `${head}select ${columns.map(({ name }) => `s.${quoted(name)}`).join(', ')}, 'i'::"char" as pawl_action from ${staging} s${
      key.length === 0 ? '' : ` where not exists (select from ${relation} t where ${known})`
    }`
  }
  const isKey = (name: string) => key.includes(name)
  const first = quoted(key[0] ?? '')
  const values = columns.map(({ name }) => {
    const column = quoted(name)
    return isKey(name) ? `coalesce(s.${column}, t.${column}) as ${column}` : `s.${column}`
  })
  const others = columns.filter(({ name }) => !isKey(name))
  const side = (alias: string) => others.map(({ name, comparable }) => `${alias}.${quoted(name)}${comparable ? '' : '::text'}`).join(', ')
  const changed = others.length === 0 ? '' : `\n  or row(${side('s')}) is distinct from row(${side('t')})`
  const replaced = within === undefined ? relation : `(select * from ${relation} where ${within})`
  // A row that has moved into the window stands outside it still, under the same key: it is changed, not added.
  const moved =
    within === undefined
      ? ''
      : ` when exists (select from ${relation} o where ${key.map(name => `o.${quoted(name)} = s.${quoted(name)}`).join(' and ')}) then 'u'`
  return `${head}select ${values.join(', ')},
  (case when s.${first} is null then 'd' when t.${first} is not null then 'u'${moved} else 'i' end)::"char" as pawl_action
from ${staging} s
full join ${replaced} t on ${key.map(name => `s.${quoted(name)} = t.${quoted(name)}`).join(' and ')}
where t.${first} is null or s.${first} is null${changed}`
}

/** The statements that make the table what was staged, in an order in which no row stands in another's way. */
export function applySql({ difference, relation, key, columns }: Comparison): { deleted: string; updated: string; inserted: string } {
  const same = key.map(name => `t.${quoted(name)} = d.${quoted(name)}`).join(' and ')
  const others = columns.filter(({ name }) => !key.includes(name)).map(({ name }) => quoted(name))
  const all = columns.map(({ name }) => quoted(name)).join(', ')
  return {
    deleted: `delete from ${relation} t using ${difference} d where d.pawl_action = 'd' and ${same}`,
    updated:
      others.length === 0
        ? ''
        : `update ${relation} t set ${others.map(column => `${column} = d.${column}`).join(', ')} from ${difference} d where d.pawl_action = 'u' and ${same}`,
    // For keys that are GENERATED ALWAYS AS IDENTITY; anywhere else it says nothing.
    inserted: `insert into ${relation} (${all}) overriding system value select ${all} from ${difference} d where d.pawl_action = 'i'`,
  }
}
