import type { Config } from '../src/config.ts'
import { version } from '../src/version.ts'
import { exitCodeOf, exitCodes, failureOf } from './failure.ts'
import { helpOf, overview } from './help.ts'
import { didYouMean } from './nearest.ts'
import { paint } from './paint.ts'
import { type Call, parse } from './parse.ts'
import type { Commands, CommandSpec } from './spec.ts'
import { openTerminal, type Terminal, usageError } from './terminal.ts'

/** Finds the command, runs it and turns what it threw into one clear line and an exit code. No stack traces for people. */
export async function run(commands: Commands, given: string[]): Promise<number> {
  // `pawl --json status` is what many type.
  const first = given.findIndex(word => word !== '--json')
  const [name, ...rest] = first > 0 ? [...given.slice(first), ...given.slice(0, first)] : given
  let json = rest.includes('--json')
  let said: Call | undefined
  let terminal: Terminal | undefined
  try {
    if (name === undefined || name === 'help' || name === '--help' || name === '-h') return await help(commands, rest, name !== undefined)
    if (name === '--version' || name === 'version') {
      process.stdout.write(json ? `${JSON.stringify({ version })}\n` : `${version}\n`)
      return exitCodes.ok
    }
    const command = commandNamed(commands, name)
    said = parse(name, command, rest)
    if (said.help) {
      process.stdout.write(helpOf(name, command, said.form))
      return exitCodes.ok
    }
    json = said.values.json === true
    terminal = await openTerminal(name, json)
    const work = await command.load()
    return await work(terminal, said.values, said.words)
  } catch (error) {
    // A migration's own statement may miss a table; that says nothing of the schema as a whole.
    await report(error, { json, role: said?.form?.role, config: terminal?.config, mayLackSchema: name !== 'migrate' })
    return exitCodeOf(error)
  }
}

function commandNamed(commands: Commands, name: string): CommandSpec {
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (command !== undefined) return command
  throw usageError(`there is no command "${name}"`, `${didYouMean(name, Object.keys(commands))}"pawl help" lists all`)
}

async function help(commands: Commands, words: string[], isAsked: boolean): Promise<number> {
  const [name, verb] = words.filter(word => !word.startsWith('-'))
  if (words.includes('--json')) {
    const described = name === undefined ? commands : { [name]: commandNamed(commands, name) }
    process.stdout.write(`${JSON.stringify({ version, commands: described })}\n`)
  } else if (name === undefined) process.stdout.write(overview(commands))
  else {
    const command = commandNamed(commands, name)
    const form = command.forms.find(one => one.verb !== undefined && one.verb === verb)
    if (verb !== undefined && form === undefined) parse(name, command, [verb])
    process.stdout.write(helpOf(name, command, form))
  }
  return isAsked ? exitCodes.ok : exitCodes.refused
}

type Circumstances = { json: boolean; role: string | undefined; config: Config | undefined; mayLackSchema: boolean }

async function report(error: unknown, { json, role, config, mayLackSchema }: Circumstances): Promise<void> {
  const { code, message, hint: ownHint, stack } = failureOf(error, { role, secrets: config === undefined ? [] : secretsOf(config) })
  const isMissing = mayLackSchema && /^(42P01|42883|42703|3F000)$/.test(code)
  const hint = (config !== undefined && isMissing ? await (await import('./schema-hint.ts')).schemaHint(config) : undefined) ?? ownHint
  if (json) {
    process.stdout.write(`${JSON.stringify({ error: { code, message, hint } })}\n`)
    return
  }
  const shown = code === 'unknown' ? '' : ` (${code})`
  process.stderr.write(`${paint(process.stderr.isTTY && process.stderr.hasColors(), 'red', 'error')}: ${message}${shown}\n`)
  if (hint !== undefined) process.stderr.write(`  next: ${hint}\n`)
  if (stack !== undefined) process.stderr.write(`${stack}\n`)
}

/** Passwords of the environment, as they stand in the URLs and as they are sent. A user's own name is no secret. */
function secretsOf({ databaseUrl, directUrl, replicaUrl, scratchUrl, sourceUrls }: Config): string[] {
  return [databaseUrl, directUrl, replicaUrl, scratchUrl, ...Object.values(sourceUrls)].flatMap(text => {
    const url = URL.parse(text ?? '')
    if (url === null || url.password === '' || [url.username, url.hostname, url.pathname.slice(1)].includes(url.password)) return []
    return [url.password, decoded(url.password)]
  })
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
