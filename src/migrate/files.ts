import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { PawlError } from '../errors.ts'

/** One statement of a file and the line it starts on, for messages. */
export type Statement = { text: string; line: number }

/** One SQL file as it stands on disk. `checksum` is sha256 in hex of the whole text, the same value drizzle computes. */
export type MigrationFile = {
  text: string
  checksum: string
  statements: Statement[]
  /** False when the file opens with `-- pawl:no-transaction`. */
  transactional: boolean
  /** True when the file opens with `-- pawl:destructive`. */
  destructive: boolean
}

/** One journal entry with its two files; `when` (milliseconds) is the order of application. */
export type Migration = { tag: string; when: number; up: MigrationFile | undefined; down: MigrationFile | undefined }

export type ProblemKind =
  | 'edited'
  | 'down_edited'
  | 'missing'
  | 'no_down'
  | 'unlisted'
  | 'out_of_order'
  | 'duplicate'
  | 'unpaired'
  | 'malformed'
  | 'pending'
  | 'invalid_index'
  | 'drifted'

/** What stands in the way, and what to do about it. `tag` names the migration (or, for `invalid_index` and `drifted`, the object). */
export type Problem = { kind: ProblemKind; tag: string; message: string; remedy: string }

/** The directory as read: entries in journal order, and what is wrong with the files themselves. */
export type Migrations = { entries: Migration[]; problems: Problem[] }

/** Thrown before anything is changed; `problems` says the same as the message, for machines. */
export class MigrationsRefused extends PawlError {
  readonly problems: Problem[]

  constructor(problems: Problem[]) {
    const lines = problems.map(problem => `  ${problem.tag}: ${problem.message}; ${problem.remedy}`)
    super('migrate.refused', `the migrations are refused, nothing was changed:\n${lines.join('\n')}`, {
      hint: 'do what is said behind each name, then run it again; pawl migrate status shows all of them',
    })
    this.name = 'MigrationsRefused'
    this.problems = problems
  }
}

const journalShape = z.object({
  version: z.literal('7'),
  dialect: z.literal('postgresql'),
  entries: z.array(
    z.object({
      tag: z
        .string()
        .regex(/^\d{4}_[\w-]+$/)
        .max(255),
      when: z.number().int(),
    }),
  ),
})

/** The journal of drizzle-kit, oldest entry first. Throws `migrate.journal` when it is missing or is not one. */
export async function readJournal(dir: string): Promise<{ tag: string; when: number }[]> {
  const path = join(dir, 'meta', '_journal.json')
  try {
    return journalShape.parse(JSON.parse(await readFile(path, 'utf8'))).entries
  } catch (cause) {
    const reason = cause instanceof z.ZodError ? cause.issues.map(issue => `${issue.path.join('.')}: ${issue.message}`).join('; ') : String(cause)
    throw new PawlError('migrate.journal', `${path} is no journal of drizzle-kit: ${reason}`, {
      hint: 'set PAWL_MIGRATIONS_DIR to the directory that holds meta/_journal.json',
      cause,
    })
  }
}

/** Reads the journal, the up files beside it and the down files under `down/`. What is wrong with them is returned, not thrown. */
export async function readMigrations(dir: string): Promise<Migrations> {
  const journal = await readJournal(dir)
  const [ups, downs] = await Promise.all([readFiles(dir), readFiles(join(dir, 'down'))])
  const problems: Problem[] = []
  const listed = new Set<string>()
  let newest: { tag: string; when: number } | undefined
  for (const entry of journal) {
    if (listed.has(entry.tag)) {
      problems.push(problem('duplicate', entry.tag, 'meta/_journal.json names it twice', 'take one of the entries out'))
    } else if (newest !== undefined && entry.when <= newest.when) {
      // Order of application is `when`, as drizzle has it: an entry that is not the newest would be skipped for ever.
      problems.push(outOfOrder(entry.tag, newest.tag, 'stands before it in the journal'))
    }
    if (newest === undefined || entry.when > newest.when) newest = entry
    listed.add(entry.tag)
    const [up, down] = [ups.get(entry.tag), downs.get(entry.tag)]
    if (up === undefined) {
      problems.push(
        problem(
          'missing',
          entry.tag,
          `meta/_journal.json names it, but ${entry.tag}.sql is not there`,
          'restore the file, or take the entry out if it was never applied',
        ),
      )
    }
    if (down === undefined) {
      problems.push(problem('no_down', entry.tag, `down/${entry.tag}.sql is not there`, 'write it: it undoes what the up file does'))
    }
    for (const [name, file] of [
      [`${entry.tag}.sql`, up],
      [`down/${entry.tag}.sql`, down],
    ] as const) {
      const fault = file && faultOf(file)
      if (fault !== undefined) problems.push(problem('malformed', entry.tag, `${name} ${fault.message}`, fault.remedy))
    }
  }
  for (const [files, folder] of [
    [ups, ''],
    [downs, 'down/'],
  ] as const) {
    for (const tag of files.keys()) {
      if (listed.has(tag)) continue
      problems.push(
        problem('unlisted', tag, `${folder}${tag}.sql is not in meta/_journal.json`, 'make its entry with drizzle-kit generate --custom, or delete the file'),
      )
    }
  }
  return { entries: journal.map(entry => ({ ...entry, up: ups.get(entry.tag), down: downs.get(entry.tag) })), problems }
}

async function readFiles(folder: string): Promise<Map<string, MigrationFile>> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const files = new Map<string, MigrationFile>()
  for (const name of names.filter(name => name.endsWith('.sql')).sort()) {
    files.set(name.slice(0, -'.sql'.length), parseFile(await readFile(join(folder, name), 'utf8')))
  }
  return files
}

/** Cuts a file at its breakpoints and reads the directives of its opening comment. */
export function parseFile(text: string): MigrationFile {
  const statements: Statement[] = []
  let offset = 0
  for (const piece of text.split(BREAKPOINT)) {
    const lead = piece.length - piece.trimStart().length
    if (piece.trim() !== '') statements.push({ text: piece.trim(), line: text.slice(0, offset + lead).split('\n').length })
    offset += piece.length + BREAKPOINT.length
  }
  const directives = directivesOf(text)
  return {
    text,
    checksum: createHash('sha256').update(text).digest('hex'),
    statements,
    transactional: !directives.includes('no-transaction'),
    destructive: directives.includes('destructive'),
  }
}

const BREAKPOINT = '--> statement-breakpoint'
/** `lock` says for reviewers why a lock is taken on a table that has rows; test/migration/lint.ts asks for it. */
const DIRECTIVES = ['no-transaction', 'destructive', 'lock']

function directivesOf(text: string): string[] {
  const opening = /^(?:\uFEFF?(?:[ \t]*(?:--(?!>)[^\n]*)?\r?(?:\n|$)))*/.exec(text)?.[0] ?? ''
  return [...opening.matchAll(/^\uFEFF?[ \t]*--[ \t]*pawl:[ \t]*(\S+)/gm)].map(match => match[1] ?? '')
}

/** What would make a file unsafe to run, seen without running it. */
function faultOf(file: MigrationFile): { message: string; remedy: string } | undefined {
  const unknown = directivesOf(file.text).find(directive => !DIRECTIVES.includes(directive))
  if (unknown !== undefined) return { message: `opens with -- pawl:${unknown}, which means nothing`, remedy: `the directives are ${DIRECTIVES.join(', ')}` }
  // A file that commits by itself would leave half of itself behind, unrecorded, when the second half fails.
  const control = file.transactional && TRANSACTION_CONTROL.exec(file.text.replace(NOT_CODE, ' '))
  if (control) {
    return {
      message: `says ${control[1]?.toLowerCase()}, but each file already runs in one transaction`,
      remedy: 'take the statement out, or open the file with -- pawl:no-transaction',
    }
  }
  return undefined
}

/** Comments, strings, quoted names and dollar-quoted bodies: `commit` inside a function's body is that function's affair. */
const NOT_CODE = /--[^\n]*|\/\*[\s\S]*?\*\/|\b[eE]'(?:[^'\\]|\\[\s\S]|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$[\s\S]*?\$\1\$/g
const TRANSACTION_CONTROL = /(?:^|;)\s*(begin|commit|rollback|abort|start\s+transaction|savepoint|prepare\s+transaction)\b/i

export function problem(kind: ProblemKind, tag: string, message: string, remedy: string): Problem {
  return { kind, tag, message, remedy }
}

export function outOfOrder(tag: string, newer: string, where: string): Problem {
  return problem('out_of_order', tag, `its journal entry is not newer than that of ${newer}, which ${where}`, 'generate it again, so that it comes last')
}
