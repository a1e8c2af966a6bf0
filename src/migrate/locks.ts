import { alterTable, commaParts, flatStatements, NAME, nameOf, type SqlStatement } from './sql.ts'

/** PostgreSQL's table locks, weakest first. */
const MODES = ['ACCESS SHARE', 'ROW SHARE', 'ROW EXCLUSIVE', 'SHARE UPDATE EXCLUSIVE', 'SHARE', 'SHARE ROW EXCLUSIVE', 'EXCLUSIVE', 'ACCESS EXCLUSIVE'] as const

export type LockMode = (typeof MODES)[number]

/** A lock that a file takes on a relation that it has not made itself. */
export type TableLock = { table: string; lock: LockMode }

/** What the text of a file says about its locks, the strongest one a relation; `unknown` names what it doesn't say. */
export type LockReading = { locks: TableLock[]; unknown: string[] }

/** What else has to wait while a lock is held; null where reads and writes both go on. */
export function stops(lock: LockMode): 'reads and writes' | 'writes' | null {
  if (lock === 'ACCESS EXCLUSIVE') return 'reads and writes'
  return MODES.indexOf(lock) >= MODES.indexOf('SHARE') ? 'writes' : null
}

/** Reads the locks off a file's text. A small honest reading: what it can't tell is said, never guessed. */
export function readLocks(text: string): LockReading {
  const strongest = new Map<string, LockMode>()
  const unknown: string[] = []
  const made = new Set<string>()
  for (const statement of flatStatements(text)) {
    const reading = lockOf(statement.code)
    for (const { table, lock } of reading.locks) {
      // Nobody else can see what this file has made; `if not exists` may have made nothing.
      if (!made.has(table)) strongest.set(table, stronger(strongest.get(table), lock))
    }
    if (reading.unknown !== undefined) unknown.push(`line ${statement.line}: ${reading.unknown}`)
    const created = madeBy(statement)
    if (created !== undefined) made.add(created)
  }
  return { locks: [...strongest].map(([table, lock]) => ({ table, lock })), unknown }
}

function stronger(one: LockMode | undefined, other: LockMode): LockMode {
  return one !== undefined && MODES.indexOf(one) > MODES.indexOf(other) ? one : other
}

/** The relation that a statement surely makes. */
export function madeBy({ code }: Pick<SqlStatement, 'code'>): string | undefined {
  const [, name] =
    new RegExp(String.raw`^create\s+(?:(?:unlogged|temporary|temp)\s+)?(?:table|materialized\s+view|view)\s+(?!if\s+not\s+exists)(${NAME})`, 'i').exec(code) ??
    []
  return name === undefined ? undefined : nameOf(name)
}

type Reading = { locks: TableLock[]; unknown?: string }
const none: Reading = { locks: [] }
const on = (table: string | undefined, lock: LockMode): Reading => ({ locks: table === undefined ? [] : [{ table: nameOf(table), lock }] })
const n = (pattern: string) => new RegExp(`^${pattern.replaceAll('NAME', `(${NAME})`).replaceAll(' ', String.raw`\s+`)}`, 'i')

/** The first that fits counts. */
const READINGS: [RegExp, (match: RegExpExecArray, code: string) => Reading][] = [
  [n('create (?:temporary|temp) table'), () => none],
  [n('create (?:unlogged )?table (?:if not exists )?NAME'), (match, code) => createTable(match[1] ?? '', code)],
  [n('create (?:unique )?index concurrently .*?\\bon (?:only )?NAME'), match => on(match[1], 'SHARE UPDATE EXCLUSIVE')],
  [n('create (?:unique )?index .*?\\bon (?:only )?NAME'), match => on(match[1], 'SHARE')],
  [n('create (?:or replace )?(?:constraint )?trigger .*?\\bon NAME'), match => on(match[1], 'SHARE ROW EXCLUSIVE')],
  [n('create or replace view NAME'), match => on(match[1], 'ACCESS EXCLUSIVE')],
  [n('(?:create|alter|drop) policy .*?\\bon NAME'), match => on(match[1], 'ACCESS EXCLUSIVE')],
  [n('create (?:or replace )?rule .*?\\bto NAME'), match => on(match[1], 'ACCESS EXCLUSIVE')],
  [n('drop (?:trigger|rule) (?:if exists )?.*?\\bon NAME'), match => on(match[1], 'ACCESS EXCLUSIVE')],
  [n('drop (?:table|view|materialized view) (?:if exists )?(.*)$'), match => dropped(match[1] ?? '')],
  [n('drop index concurrently'), () => none],
  [n('drop index (?:if exists )?(.*)$'), match => ({ locks: [], unknown: `drop index takes ACCESS EXCLUSIVE on the table of ${match[1]}` })],
  [n('truncate (?:table )?(.*)$'), match => dropped(match[1] ?? '')],
  [n('lock (?:table )?(?:only )?(.*?)(?: in ([a-z ]+?) mode)?(?: nowait)?$'), match => lockTable(match[1] ?? '', match[2])],
  [n('refresh materialized view concurrently NAME'), match => on(match[1], 'EXCLUSIVE')],
  [n('refresh materialized view NAME'), match => on(match[1], 'ACCESS EXCLUSIVE')],
  [n('update (?:only )?NAME'), match => on(match[1], 'ROW EXCLUSIVE')],
  [n('delete from (?:only )?NAME'), match => on(match[1], 'ROW EXCLUSIVE')],
  [
    n(
      '(?:create|alter) (?:or replace )?(?:materialized |recursive )?(?:function|procedure|routine|type|domain|sequence|schema|extension|role|view|default privileges|event trigger|aggregate)\\b',
    ),
    () => none,
  ],
  [n('drop (?:function|procedure|routine|type|domain|sequence|schema|extension|role|event trigger|aggregate)\\b(?!.* cascade)'), () => none],
  [n('alter index (?:if exists )?NAME rename\\b'), () => none],
  [/^(?:insert|grant|revoke|comment|set|reset)\b/i, () => none],
  // What a block holds is read statement by statement.
  [/^do\b/i, () => none],
  [/^execute\b/i, () => ({ locks: [], unknown: 'runs SQL that is put together at run time' })],
  [/^(?:select|perform)\b(?!.*\w\s*\()/i, () => none],
  [/^(?:select|perform)\b/i, () => ({ locks: [], unknown: 'calls functions, which may lock anything' })],
]

/** What one statement, as code, locks. */
export function lockOf(code: string): Reading {
  const altered = alterTable(code)
  if (altered !== undefined) return alteration(altered.table, altered.actions)
  for (const [pattern, read] of READINGS) {
    const match = pattern.exec(code)
    if (match !== null) return read(match, code)
  }
  return { locks: [], unknown: `"${code.slice(0, 40)}" is not read` }
}

function createTable(name: string, code: string): Reading {
  const parent = n('.*? partition of NAME').exec(code)?.[1]
  const locks = referencesOf(code).filter(({ table }) => table !== nameOf(name))
  return { locks: parent === undefined ? locks : [...locks, { table: nameOf(parent), lock: 'ACCESS EXCLUSIVE' }] }
}

/** A foreign key puts a trigger on the table that it points to. */
function referencesOf(code: string): TableLock[] {
  const references = code.matchAll(new RegExp(String.raw`\breferences\s+(${NAME})`, 'gi'))
  return [...references].map(([, table]) => ({ table: nameOf(table ?? ''), lock: 'SHARE ROW EXCLUSIVE' }))
}

const WEAK_ACTIONS: [RegExp, LockMode][] = [
  [/^validate\s+constraint\b/i, 'SHARE UPDATE EXCLUSIVE'],
  [/^attach\s+partition\b/i, 'SHARE UPDATE EXCLUSIVE'],
  [/^detach\s+partition\b.*\b(?:concurrently|finalize)\b/i, 'SHARE UPDATE EXCLUSIVE'],
  [/^(?:cluster\s+on|set\s+without\s+cluster|(?:re)?set\s*\()/i, 'SHARE UPDATE EXCLUSIVE'],
  [/^alter\s+(?:column\s+)?\S+\s+(?:set\s+statistics\b|(?:re)?set\s*\()/i, 'SHARE UPDATE EXCLUSIVE'],
  [/^(?:enable|disable)\s+(?:replica\s+|always\s+)?trigger\b/i, 'SHARE ROW EXCLUSIVE'],
  [/^add\s+(?:constraint\s+\S+\s+)?foreign\s+key\b/i, 'SHARE ROW EXCLUSIVE'],
]

function alteration(table: string, actions: string[]): Reading {
  const own = actions.map(action => WEAK_ACTIONS.find(([pattern]) => pattern.test(action))?.[1] ?? 'ACCESS EXCLUSIVE')
  const partitions = actions.flatMap(action => {
    const name = new RegExp(String.raw`^(?:attach|detach)\s+partition\s+(${NAME})`, 'i').exec(action)?.[1]
    return name === undefined ? [] : on(name, 'ACCESS EXCLUSIVE').locks
  })
  const others = actions.flatMap(referencesOf).filter(lock => lock.table !== table)
  return { locks: [{ table, lock: own.reduce(stronger, 'ACCESS SHARE') }, ...partitions, ...others] }
}

function dropped(list: string): Reading {
  const names = commaParts(list.replace(/\b(?:cascade|restrict|restart\s+identity|continue\s+identity|only)\b/gi, ' '))
  const locks = names.filter(isName).map(name => ({ table: nameOf(name), lock: 'ACCESS EXCLUSIVE' as const }))
  return /\bcascade\b/i.test(list) ? { locks, unknown: 'cascade reaches whatever depends on it' } : { locks }
}

function lockTable(list: string, mode = 'access exclusive'): Reading {
  const lock = MODES.find(known => known === mode.toUpperCase().replace(/\s+/g, ' '))
  if (lock === undefined) return { locks: [], unknown: `lock in "${mode}" mode is not read` }
  return {
    locks: commaParts(list)
      .filter(isName)
      .map(table => ({ table: nameOf(table), lock })),
  }
}

const isName = (text: string) => new RegExp(`^${NAME}$`).test(text)
