import { type Import, readSource, type Source, type Use } from './sources.ts'

/** Files by their path from the root of the project, such as `src/clock.ts`. */
export type Tree = ReadonlyMap<string, string>

export type Breach = { rule: string; file: string; line: number; message: string }

type House = ReadonlyMap<string, Source>
type Rule = (house: House) => Omit<Breach, 'rule'>[]

/** The rooms, lower ones first: a file imports from its own room and from those below it. */
const rooms = ['src', 'workers', 'bin', 'bench']

const LINES_MAX = 250

/** Files whose whole meaning is in their text: no import but types and errors. */
export const pureFiles = [
  'src/retry.ts',
  'src/queues.ts',
  'src/errors.ts',
  'bin/table.ts',
  'bin/graph.ts',
  'workers/refresh/source.ts',
  'src/names.ts',
  'workers/reports/document.ts',
  'workers/reports/copy-rows.ts',
  'workers/reports/csv-rows.ts',
  'workers/refresh/sources/copy-text.ts',
  'workers/maintenance/backups/retention.ts',
]

/** drizzle-kit reads the schema by a pattern in drizzle.config.ts, so nothing needs to import it. */
const readByTools = /^src\/schema\//

/** Each outside thing, and the files that may touch it. `typesIn`: they may name its types, which leaves nothing behind at run time. */
const owners: { thing: string; modules?: RegExp; uses?: RegExp; files: RegExp; typesIn?: RegExp; instead: string }[] = [
  {
    thing: 'pg',
    modules: /^(pg|pg-copy-streams|drizzle-orm\/node-postgres)$/,
    files: /^src\/database\.ts$/,
    instead: 'take a Query or a Database from src/database.ts',
  },
  {
    thing: 'pg-boss',
    modules: /^pg-boss$/,
    // A benchmark may measure pg-boss by itself.
    files: /^(src\/boss|bench\/rivals)\.ts$/,
    typesIn: /^src\/(claims|daemon)\.ts$/,
    instead: 'enqueue through the functions of the database, or put what you need into src/boss.ts',
  },
  {
    thing: 'DuckDB and BigQuery',
    modules: /^(@duckdb|@google-cloud)\//,
    files: /^workers\/refresh\/sources\//,
    instead: 'read through a Source: workers/refresh/sources.ts opens them',
  },
  { thing: 'S3', modules: /^@aws-sdk\//, files: /^src\/store\//, instead: 'open a Store: src/store.ts' },
  { thing: 'the environment', uses: /^process\.env$/, files: /^src\/config\.ts$/, instead: 'add the variable to src/config.ts and take a Config' },
  {
    thing: "the machine's clock",
    modules: /^(node:)?perf_hooks$/,
    uses: /^(Date\.now|performance\.\w+|new Date\(\)|process\.(hrtime|uptime))$/,
    files: /^src\/clock\.ts$/,
    instead: 'take a Clock, so that a test can hand in another',
  },
  {
    thing: "the process's signals and its end",
    uses: /^process\.(on|once|addListener|prependListener|exit|abort|reallyExit)$/,
    files: /^bin\//,
    instead: 'take an AbortSignal, and throw a PawlError: bin/ decides when the process ends',
  },
  {
    thing: 'other processes',
    modules: /^(node:)?child_process$/,
    files: /^src\/(tools\.ts$|embedded(\.ts$|\/))/,
    instead: "only the embedded PostgreSQL and PostgreSQL's own tools (src/tools.ts) are started",
  },
  { thing: '`process` by import', modules: /^(node:)?process$/, files: /^$/, instead: 'write the global `process`, where these rules see what of it is used' },
]

/** The rules of the house (design, section 2), each by itself. */
export const rules: Readonly<Record<string, Rule>> = {
  'bin → workers → src → npm': house =>
    eachImport(house, (source, target) => {
      if (target.to === undefined || target.to === 'package.json') return undefined
      // A benchmark is no part of the product either.
      if (roomOf(source.path) === 'bench' && target.to.startsWith('test/support/')) return undefined
      const [from, to] = [rooms.indexOf(roomOf(source.path)), rooms.indexOf(roomOf(target.to))]
      if (to === -1) return `${roomOf(source.path)}/ imports ${target.to}, which is no part of the product; move what is needed into src/`
      return to > from
        ? `${roomOf(source.path)}/ imports ${target.to} from above; move what both need down into ${roomOf(source.path)}/, or take it as a parameter`
        : undefined
    }),

  'a domain never imports another domain': house =>
    eachImport(house, (source, target) => {
      const [from, to] = [domainOf(source.path), domainOf(target.to ?? '')]
      if (from === undefined || to === undefined || from === to) return undefined
      return `domain ${from} imports ${target.to}; domains meet in tables and queues: write a row or enqueue a job, and move shared machinery to src/`
    }),

  'each outside thing has one owner': house =>
    [...house.values()].flatMap(source =>
      owners.flatMap(owner => {
        if (owner.files.test(source.path)) return []
        const isImported = (found: Import) => owner.modules?.test(found.specifier) === true && !(found.typeOnly && owner.typesIn?.test(source.path))
        const told = (found: Import | Use, what: string) => ({
          file: source.path,
          line: found.line,
          message: `touches ${owner.thing} (${what}); ${owner.instead}`,
        })
        return [
          ...source.imports.filter(isImported).map(found => told(found, found.specifier)),
          ...source.uses.filter(found => owner.uses?.test(found.what)).map(found => told(found, found.what)),
        ]
      }),
    ),

  'pure files import types and errors only': house =>
    eachImport(house, (source, target) => {
      if (!pureFiles.includes(source.path) || target.typeOnly || target.to === 'src/errors.ts') return undefined
      return `imports ${target.specifier}, but this file is pure; write "import type", or give the pure part a file of its own`
    }),

  'no cycles': house => {
    const circles = new Map<string, Omit<Breach, 'rule'>>()
    for (const start of house.values()) {
      for (const first of start.imports) {
        const back = first.to === undefined ? undefined : pathBetween(house, first.to, start.path)
        if (back === undefined) continue
        const key = [...back].sort().join()
        const message = `imports itself by way of ${back.join(' → ')}; move what they share into a file that imports neither`
        if (!circles.has(key)) circles.set(key, { file: start.path, line: first.line, message })
      }
    }
    return [...circles.values()]
  },

  'every file is reachable from bin/pawl.ts': house =>
    [...house.values()]
      .filter(source => roomOf(source.path) !== 'bench' && !readByTools.test(source.path))
      .filter(source => pathBetween(house, 'bin/pawl.ts', source.path) === undefined)
      .map(source => ({
        file: source.path,
        line: 1,
        message: 'nothing that bin/pawl.ts runs imports it; wire it up (a worker: in workers/index.ts) or delete it',
      })),

  [`no file has more than ${LINES_MAX} lines`]: house =>
    [...house.values()]
      .filter(source => source.lines > LINES_MAX)
      .map(source => ({
        file: source.path,
        line: LINES_MAX + 1,
        message: `has ${source.lines} lines; a second noun is hiding in it: give that a file of its own`,
      })),

  'a queue is named as its file': house => {
    const listed = house.get('src/queues.ts')?.queues ?? []
    const misnamed = [...house.values()].flatMap(source =>
      source.workers.flatMap(worker => {
        const expected = source.path
          .replace(/^workers\//, '')
          .replace(/\.ts$/, '')
          .replaceAll('/', '.')
        const at = { file: source.path, line: worker.line }
        if (worker.name !== expected)
          return [{ ...at, message: `its queue is ${worker.name ?? 'not a plain text'}; write queue: '${expected}', or move the file` }]
        return listed.some(queue => queue.name === expected)
          ? []
          : [{ ...at, message: `queue ${expected} is not in src/queues.ts, so "pawl migrate up" would not create it; add it there` }]
      }),
    )
    const homeless = listed.flatMap(queue => {
      const file = `workers/${queue.name?.replaceAll('.', '/')}.ts`
      if (queue.name !== undefined && house.get(file)?.workers.some(worker => worker.name === queue.name)) return []
      return [
        {
          file: 'src/queues.ts',
          line: queue.line,
          message: `queue ${queue.name ?? 'without a plain name'} has no worker in ${file}; write it, or take the queue out`,
        },
      ]
    })
    return [...misnamed, ...homeless]
  },

  'client/ stands alone': everything =>
    eachImport(everything, (source, target) => {
      if (roomOf(source.path) !== 'client' || target.to?.startsWith('client/') === true || target.specifier.startsWith('node:')) return undefined
      return `imports ${target.to ?? target.specifier}, but the client is published by itself and takes its connection from the caller; take what you need as a parameter`
    }),

  'every import names its module': house =>
    [...house.values()].flatMap(source =>
      source.unreadable.map(line => ({
        file: source.path,
        line,
        message: 'imports a computed module, which neither these rules nor the bundle can follow; import by a plain text',
      })),
    ),
}

/** Rules that look at all files, also outside the rooms. */
const everywhere = [`no file has more than ${LINES_MAX} lines`, 'client/ stands alone']

/** Every breach of every rule. Files in `test/` and `examples/` are only measured. */
export function inspect(tree: Tree): Breach[] {
  const all = [...tree].map(([path, text]) => readSource(path, text))
  const house = new Map(all.filter(source => rooms.includes(roomOf(source.path))).map(source => [source.path, source]))
  const measured = new Map(all.map(source => [source.path, source]))
  return Object.entries(rules).flatMap(([rule, check]) => check(everywhere.includes(rule) ? measured : house).map(breach => ({ rule, ...breach })))
}

function eachImport(house: House, judge: (source: Source, target: Import) => string | undefined): Omit<Breach, 'rule'>[] {
  return [...house.values()].flatMap(source =>
    source.imports.flatMap(target => {
      const message = judge(source, target)
      return message === undefined ? [] : [{ file: source.path, line: target.line, message }]
    }),
  )
}

/** The files from `from` to `to` along the imports, both included; undefined when no way leads there. */
function pathBetween(house: House, from: string, to: string): string[] | undefined {
  const cameFrom = new Map<string, string | undefined>([[from, undefined]])
  // A map goes on to what is added while it is walked: breadth first.
  for (const [path] of cameFrom) {
    if (path === to) return trail(cameFrom, to)
    for (const { to: next } of house.get(path)?.imports ?? []) if (next !== undefined && !cameFrom.has(next)) cameFrom.set(next, path)
  }
  return undefined
}

function trail(cameFrom: ReadonlyMap<string, string | undefined>, end: string): string[] {
  const before = cameFrom.get(end)
  return before === undefined ? [end] : [...trail(cameFrom, before), end]
}

function roomOf(path: string): string {
  return path.split('/')[0] ?? ''
}

/** `overrides` for workers/overrides/apply.ts; undefined for what belongs to none. */
function domainOf(path: string): string | undefined {
  const [room, domain, file] = path.split('/')
  return room === 'workers' && file !== undefined ? domain : undefined
}
