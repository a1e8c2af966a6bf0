import type { Config } from '../src/config.ts'
import { PawlError } from '../src/errors.ts'
import type { Log } from '../src/log.ts'

export { exitCodes } from './failure.ts'

/** What was given for options, by their names; a flag is true. */
export type Values = Record<string, string | boolean | string[] | undefined>

/** What a command works with. Answers go to standard output, talk to standard error. */
export type Terminal = {
  config: Config
  log: Log
  json: boolean
  color: boolean
  /** Somebody looks at it: what is shown again is drawn in place. */
  live: boolean
  out(line: string): void
  say(line: string): void
}

/** Reads the environment, and says where answers and the log go. Throws `config.invalid`. */
export async function openTerminal(name: string, json: boolean): Promise<Terminal> {
  // Loaded now, and not before: help and refusals need neither.
  const [{ readConfig }, { openLog }] = await Promise.all([import('../src/config.ts'), import('../src/log.ts')])
  const config = readConfig()
  const live = process.stdout.isTTY === true && !json
  return {
    config,
    json,
    live,
    color: process.stdout.isTTY === true && !config.noColor,
    // A daemon logs to standard output; a command that answers there logs only what went wrong, to standard error.
    log: name === 'work' ? openLog({ level: config.logLevel }) : openLog({ level: 'warn', destination: 2 }),
    out: line => void process.stdout.write(`${line}\n`),
    say: line => void process.stderr.write(`${line}\n`),
  }
}

/** What a command has to say: to a machine as JSON, to people in words. */
export function answer(terminal: Terminal, machine: unknown, people: string): void {
  terminal.out(terminal.json ? JSON.stringify(machine) : people)
}

/** A mistake in how the command was called: exit code 2. */
export function usageError(message: string, hint: string): PawlError {
  return new PawlError('usage', message, { hint })
}
