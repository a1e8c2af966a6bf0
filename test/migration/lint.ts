import type { MigrationFile, Migrations } from '../../src/migrate/files.ts'
import { madeBy } from '../../src/migrate/locks.ts'
import { alterTable, commaParts, flatStatements, NAME, nameOf, type SqlStatement } from '../../src/migrate/sql.ts'

/** One thing that a reviewer must have agreed to. `about` is the table or routine, so that an exception covers nothing else. */
export type Finding = { tag: string; rule: Rule; about: string; line: number }

export type Rule =
  | 'header'
  | 'no-down'
  | 'routine-left-executable'
  | 'not-null-without-default'
  | 'volatile-default'
  | 'type-change'
  | 'rename'
  | 'drop'
  | 'constraint-scans'
  | 'unique-builds-index'
  | 'index-blocks-writes'
  | 'set-not-null-scans'
  | 'lock-table'
  | 'truncate'
  | 'rows-changed-beside-ddl'
  | 'validated-under-ddl-lock'
  | 'runs-made-sql'
  | 'down-not-repeatable'

/** Tables of a host application that may be there, with rows, before the first file of ours runs. */
const ADOPTED =
  /^(?:public\.(?:users|categories|recipients|category_recipient_settings|system_maintenance_log|campaigns|campaign_\w+|timer_executions)|sqp\.\w+)$/

/** Every finding in a directory of migrations, in the order of the files. */
export function lint(migrations: Migrations): Finding[] {
  return migrations.entries.flatMap(({ tag, up, down }) => [
    ...(up === undefined ? [] : lintUp(up).map(found => ({ tag, ...found }))),
    ...(down === undefined ? [{ tag, rule: 'no-down' as const, about: tag, line: 1 }] : lintDown(down, up).map(found => ({ tag: `down/${tag}`, ...found }))),
  ])
}

type Found = Omit<Finding, 'tag'>
type Scope = { file: MigrationFile; statements: SqlStatement[]; header: string; old: (table: string) => boolean }
type Check = (statement: SqlStatement, scope: Scope) => [Rule, string][]

/** A table is old, and has rows, unless this very file makes it without `if not exists`. */
export function lintUp(file: MigrationFile): Found[] {
  const statements = flatStatements(file.text)
  const made = new Set(statements.map(madeBy))
  const header = /^\uFEFF?(?:--(?!>)[^\n]*(?:\n|$))*/.exec(file.text)?.[0] ?? ''
  const scope: Scope = { file, statements, header, old: table => !made.has(table) }
  const opening: Found[] = header.trim() === '' ? [{ rule: 'header', about: 'the file', line: 1 }] : []
  const checks = [alterations, indexes, bulk, routines]
  return [
    ...opening,
    ...statements.flatMap(statement => checks.flatMap(check => check(statement, scope)).map(([rule, about]): Found => ({ rule, about, line: statement.line }))),
  ]
}

const ACTIONS: [Rule, (action: string) => boolean][] = [
  ['rename', action => /^rename\b/i.test(action)],
  ['drop', action => /^drop\s+(?!constraint\b)/i.test(action)],
  ['type-change', action => /^alter\s+(?:column\s+)?(?!column\s)\S+\s+(?:set\s+data\s+)?type\b/i.test(action)],
  [
    'not-null-without-default',
    action => /^add\s+(?:column\s+)?(?!constraint\b).*\bnot\s+null\b/i.test(action) && !/\b(?:default|generated|\w*serial)\b/i.test(action),
  ],
  // A default that is another value in each row rewrites the table; a constant or now() does not.
  ['volatile-default', action => addsColumn(action) && /\b(?:default\s+(?!now\s*\()\w+(?:\.\w+)?\s*\(|generated\b|\w*serial\b)/i.test(action)],
  ['constraint-scans', scans],
  ['unique-builds-index', action => /^add\b.*\b(?:unique|primary\s+key)\b/i.test(action) && !/\busing\s+index\b/i.test(action)],
]

const addsColumn = (action: string) => /^add\s+(?!constraint\b|foreign\s+key\b|check\b|unique\b|primary\s+key\b|exclude\b)/i.test(action)

/** A reference of a new column without a default is not looked up: all of it is null. */
function scans(action: string): boolean {
  if (!/^add\b/i.test(action) || /\bnot\s+valid\b/i.test(action)) return false
  return /\bcheck\s*\(|\bforeign\s+key\b|\bexclude\b/i.test(action) || (addsColumn(action) && /\breferences\b/i.test(action) && /\bdefault\b/i.test(action))
}

const alterations: Check = (statement, { file, statements, old }) => {
  const { code } = statement
  const altered = alterTable(code)
  if (altered === undefined) return dropped(code, old)
  const { table, actions } = altered
  if (!old(table)) return []
  const before = statements.slice(0, statements.indexOf(statement)).filter(other => alterTable(other.code)?.table === table)
  const found = actions.flatMap(action => ACTIONS.filter(([, fires]) => fires(action)).map(([rule]): [Rule, string] => [rule, table]))
  for (const action of actions) {
    const column = /^alter\s+(?:column\s+)?(\S+)\s+set\s+not\s+null\b/i.exec(action)?.[1]
    if (column !== undefined && !provenNotNull(column, before)) found.push(['set-not-null-scans', table])
    // The lock of the statement before is held to the end of the transaction: validating there blocks as if it had not been split off.
    const locked = before.some(other => !/\bvalidate\s+constraint\b/i.test(other.code))
    if (/^validate\s+constraint\b/i.test(action) && file.transactional && locked) found.push(['validated-under-ddl-lock', table])
  }
  return found
}

/** A validated check that says the same spares PostgreSQL the scan. */
function provenNotNull(column: string, before: SqlStatement[]): boolean {
  const check = new RegExp(String.raw`\badd\s+constraint\s+(\S+)\s+check\s*\(+\s*${column}\s+is\s+not\s+null\b`, 'i')
  const name = before.map(({ code }) => check.exec(code)?.[1]).find(found => found !== undefined)
  return name !== undefined && before.some(({ code }) => new RegExp(String.raw`\bvalidate\s+constraint\s+${name}(?:\s|,|$)`, 'i').test(code))
}

function dropped(code: string, old: Scope['old']): [Rule, string][] {
  const [, list] = /^drop\s+(?:table|materialized\s+view|view)\s+(?:if\s+exists\s+)?(.*?)(?:\s+(?:cascade|restrict))?$/i.exec(code) ?? []
  return commaParts(list ?? '').flatMap((name): [Rule, string][] => (old(nameOf(name)) ? [['drop', nameOf(name)]] : []))
}

const INDEX = new RegExp(String.raw`^create\s+(?:unique\s+)?index\s+(concurrently\s)?.*?\bon\s+(?:only\s+)?(${NAME})`, 'i')

/** Allowed where `-- pawl:lock WHY` stands before the statement, or the header's "Locks:" speaks of the index. */
const indexes: Check = ({ code, comments }, { header, old }) => {
  const [, concurrently, name] = INDEX.exec(code) ?? []
  if (name === undefined || concurrently !== undefined || !old(nameOf(name))) return []
  const stated = /^--\s*pawl:\s*lock\s+\S/m.test(comments) || /\blocks:[\s\S]*\bindex/i.test(header.replaceAll('--', ''))
  return stated ? [] : [['index-blocks-writes', nameOf(name)]]
}

const bulk: Check = ({ code }, { file, statements, old }) => {
  const locked = /^lock\s+(?:table\s+)?(?:only\s+)?(.*?)(?:\s+in\s+[a-z ]+mode)?(?:\s+nowait)?$/i.exec(code)?.[1]
  const truncated = /^truncate\s+(?:table\s+)?(?:only\s+)?(.*?)(?:\s+(?:restart|continue)\s+identity)?(?:\s+(?:cascade|restrict))?$/i.exec(code)?.[1]
  const changed = new RegExp(String.raw`^(?:update|delete\s+from)\s+(?:only\s+)?(${NAME})`, 'i').exec(code)?.[1]
  const named = (rule: Rule, list: string | undefined) => commaParts(list ?? '').map((name): [Rule, string] => [rule, nameOf(name)])
  const found = [...named('lock-table', locked), ...named('truncate', truncated)]
  // Nothing here can read what a block puts together, so somebody must have.
  if (/^execute\b/i.test(code)) found.push(['runs-made-sql', 'a do block'])
  const ddl = (other: SqlStatement) => alterTable(other.code) !== undefined || INDEX.test(other.code)
  // Rows change for as long as they take, and the locks of the file's DDL are held all that while.
  if (changed !== undefined && file.transactional && statements.some(ddl)) found.push(['rows-changed-beside-ddl', nameOf(changed)])
  return found.filter(([, table]) => old(table))
}

/** Everyone may execute a new routine until that is taken away; `create or replace` keeps the rights of one that was there. */
const routines: Check = (statement, { statements }) => {
  const [, name] = new RegExp(String.raw`^create\s+(?:or\s+replace\s+)?(?:function|procedure)\s+(${NAME})`, 'i').exec(statement.code) ?? []
  if (name === undefined) return []
  const routine = nameOf(name)
  const later = statements.slice(statements.indexOf(statement)).map(({ code }) => code)
  const revokes = later.filter(code => /^revoke\s+(?:execute|all).*\bfrom\b.*\bpublic\b/i.test(code))
  const covers = (revoke: string) => {
    const schemas = /\ball\s+(?:routines|functions|procedures)\s+in\s+schema\s+(.*?)\s+from\b/i.exec(revoke)?.[1]
    if (schemas !== undefined) return commaParts(schemas).includes(routine.split('.')[0] ?? '')
    const list = /\bon\s+(?:function|procedure|routine)\s+(.*?)\s+from\b/i.exec(revoke)?.[1]
    return commaParts(list ?? '').some(part => nameOf(part.replace(/\(.*$/, '')) === routine)
  }
  return revokes.some(covers) ? [] : [['routine-left-executable', routine]]
}

const DROP = /^drop\s+(?:table|index|trigger)\s+(?:concurrently\s+)?(?!if\s+exists\b|concurrently\b)(?:\S+\s+on\s+)?(.*?)(?:\s+(?:cascade|restrict))?$/i
const NAMED_INDEX = new RegExp(
  String.raw`^create\s+(?:unique\s+)?index\s+(?:concurrently\s+)?(?:if\s+not\s+exists\s+)?(${NAME})\s+on\s+(?:only\s+)?(${NAME})`,
  'i',
)

/** What a host may have taken away itself must not stop the way back: on adopted tables every `drop` says `if exists`. */
export function lintDown(file: MigrationFile, up?: MigrationFile): Found[] {
  const tableOf = new Map<string, string>(
    flatStatements(up?.text ?? '').flatMap(({ code }) => {
      const [, index, table] = NAMED_INDEX.exec(code) ?? []
      if (index === undefined || table === undefined) return []
      const schema = nameOf(table).split('.')[0] ?? ''
      return [[`${schema}.${nameOf(index).split('.')[1]}`, nameOf(table)] as const]
    }),
  )
  return flatStatements(file.text).flatMap(({ code, line }): Found[] => {
    const altered = alterTable(code)
    const bare = (action: string) => /^drop\s+(?:column\s+|constraint\s+)?(?!if\s+exists\b|column\b|constraint\b)/i.test(action)
    const names = altered === undefined ? commaParts(DROP.exec(code)?.[1] ?? '').map(nameOf) : altered.actions.some(bare) ? [altered.table] : []
    const tables = names.map(name => tableOf.get(name) ?? name)
    return tables.filter(table => ADOPTED.test(table)).map(about => ({ rule: 'down-not-repeatable', about, line }))
  })
}
