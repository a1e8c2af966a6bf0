import { parseArgs, type ParseArgsConfig } from 'node:util'
import { type Config, readConfig } from '../src/config.ts'
import { codeOf, messageOf, PawlError } from '../src/errors.ts'
import { type Log, openLog } from '../src/log.ts'
import { version } from '../src/version.ts'
import { paint } from './paint.ts'

/** 0 ok, 1 failed, 2 bad usage or refused, 3 verification found a difference, 4 could not verify. */
export const exitCodes = { ok: 0, failed: 1, refused: 2, different: 3, unverified: 4 } as const

/** What a command works with. Answers go to standard output, talk to standard error. */
export type Terminal = {
  config: Config
  log: Log
  json: boolean
  color: boolean
  out(line: string): void
  say(line: string): void
}

export type Values = Record<string, string | boolean | (string | boolean)[] | undefined>

export type Command = {
  /** As typed, arguments included: `cancel RUN`. */
  usage: string
  summary: string
  example: string
  /** Standard output is for people, so the log keeps to warnings and standard error. */
  quiet?: boolean
  options?: NonNullable<ParseArgsConfig['options']>
  run(terminal: Terminal, values: Values, words: string[]): Promise<number>
}

const everywhere = { json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } as const

/** Finds the command, runs it and turns what it threw into one clear line and an exit code. No stack traces for people. */
export async function run(commands: Readonly<Record<string, Command>>, words: string[]): Promise<number> {
  const [name, ...rest] = words
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    process.stdout.write(overview(commands))
    return name === undefined ? exitCodes.refused : exitCodes.ok
  }
  if (name === '--version' || name === 'version') {
    process.stdout.write(`${version}\n`)
    return exitCodes.ok
  }
  let json = rest.includes('--json')
  try {
    const command = Object.hasOwn(commands, name) ? commands[name] : undefined
    if (command === undefined) throw usageError(`there is no command "${name}"`, nearest(name, Object.keys(commands)))
    const { values, positionals } = parse(command, rest)
    if (values.help === true) {
      process.stdout.write(help(command))
      return exitCodes.ok
    }
    json = values.json === true
    return await command.run(openTerminal(command, json), values, positionals)
  } catch (error) {
    report(error, json)
    return exitCodeOf(error)
  }
}

function parse(command: Command, words: string[]): { values: Values; positionals: string[] } {
  try {
    const options: ParseArgsConfig['options'] = { ...command.options, ...everywhere }
    return parseArgs({ args: words, options, allowPositionals: true })
  } catch (error) {
    throw usageError(messageOf(error), `usage: pawl ${command.usage}`)
  }
}

function openTerminal(command: Command, json: boolean): Terminal {
  const config = readConfig()
  return {
    config,
    json,
    color: process.stdout.isTTY === true && !config.noColor,
    // A daemon logs to standard output; a command that answers there logs only what went wrong, to standard error.
    log: command.quiet === true ? openLog({ level: 'warn', destination: 2 }) : openLog({ level: config.logLevel }),
    out: line => void process.stdout.write(`${line}\n`),
    say: line => void process.stderr.write(`${line}\n`),
  }
}

/** A mistake in how the command was called: exit code 2. */
export function usageError(message: string, hint: string): PawlError {
  return new PawlError('usage', message, { hint })
}

/** The word at `place`, or a usage error that says what is missing. */
export function wordAt(words: string[], place: number, what: string, usage: string): string {
  const word = words[place]
  if (word === undefined || word === '') throw usageError(`${what} is missing`, `usage: pawl ${usage}`)
  return word
}

const unreachable = 'is PostgreSQL running there, and is DATABASE_URL right?'
const unmigrated = 'the schema is not there or older than this Pawl: pawl migrate up'

/** The next step where neither Pawl nor PostgreSQL has named one. */
const hints: Readonly<Record<string, string>> = {
  ...Object.fromEntries(['ECONNREFUSED', 'ECONNRESET', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND', 'EAI_AGAIN', 'ETIMEDOUT'].map(code => [code, unreachable])),
  ...Object.fromEntries(['42P01', '42883', '42703', '3F000'].map(code => [code, unmigrated])),
  EADDRINUSE: 'another process listens there: set PAWL_HTTP_PORT to a free port, or 0 for any',
  '28P01': 'is the password in DATABASE_URL right?',
  '3D000': 'create the database, or name another one in DATABASE_URL',
  '42501': 'ask for the role pawl_observer to look, pawl_operator to steer, or pawl_producer to enqueue',
}

/** What a command has to say: to a machine as JSON, to people in words. */
export function answer(terminal: Terminal, machine: unknown, people: string): void {
  terminal.out(terminal.json ? JSON.stringify(machine) : people)
}

/** An option that holds JSON, checked and ready to be a parameter; null when it was not given. */
export function jsonOption(text: Values[string], option: string, example: string): string | null {
  if (text === undefined) return null
  try {
    return JSON.stringify(JSON.parse(String(text)))
  } catch {
    throw usageError(`${option} is not JSON: ${String(text)}`, `quote it: ${option} '${example}'`)
  }
}

function report(error: unknown, json: boolean): void {
  // PostgreSQL's own errors carry a hint too: the contract's functions speak through it.
  const code = codeOf(error)
  const hint = (error as { hint?: string } | undefined)?.hint ?? hints[code ?? '']
  const message = messageOf(error)
  if (json) {
    process.stdout.write(`${JSON.stringify({ error: { code: code ?? 'unknown', message, hint } })}\n`)
    return
  }
  process.stderr.write(`${paint(process.stderr.isTTY && process.stderr.hasColors(), 'red', 'error')}: ${message}${code === undefined ? '' : ` (${code})`}\n`)
  if (hint !== undefined) process.stderr.write(`  next: ${hint}\n`)
  if (!(error instanceof PawlError) && code === undefined && error instanceof Error) process.stderr.write(`${error.stack}\n`)
}

/** What is said of a backup is neither a refusal nor a failure of the command. */
const verdicts = new Map<string, number>([
  ...['backup.different', 'backup.damaged', 'backup.broken', 'backup.unrestorable', 'seal.damaged'].map(code => [code, exitCodes.different] as const),
  ['backup.unverifiable', exitCodes.unverified],
])

function exitCodeOf(error: unknown): number {
  const verdict = verdicts.get(codeOf(error) ?? '')
  if (verdict !== undefined) return verdict
  if (error instanceof PawlError) return error.retryable ? exitCodes.failed : exitCodes.refused
  // Bad arguments, unknown ids, missing rights: the database refused what was asked.
  return /^(22|23|42)/.test(codeOf(error) ?? '') ? exitCodes.refused : exitCodes.failed
}

function overview(commands: Readonly<Record<string, Command>>): string {
  const rows = Object.values(commands)
  const width = Math.max(...rows.map(command => command.usage.length))
  return [
    'pawl: a durable worker daemon on PostgreSQL',
    '',
    ...rows.map(command => `  pawl ${command.usage.padEnd(width)}  ${command.summary}`),
    '',
    '  --json everywhere for machines; pawl COMMAND --help for one of them.',
    '  Exit codes: 0 ok, 1 failed, 2 bad usage or refused, 3 a difference was found, 4 could not verify.',
    '',
  ].join('\n')
}

function help(command: Command): string {
  const options = Object.entries<{ type: string }>({ ...command.options, ...everywhere }).map(
    ([name, option]) => `--${name}${option.type === 'string' ? ' …' : ''}`,
  )
  return [command.summary, '', `  usage:    pawl ${command.usage}`, `  example:  ${command.example}`, `  options:  ${options.join(', ')}`, ''].join('\n')
}

function nearest(word: string, words: string[]): string {
  const close = words.filter(candidate => candidate.startsWith(word.slice(0, 2)))
  return close.length > 0 ? `did you mean ${close.join(' or ')}? "pawl help" lists all` : '"pawl help" lists them'
}
