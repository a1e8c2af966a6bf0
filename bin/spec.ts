import type { Terminal, Values } from './terminal.ts'

/** What a command does with a call that was found right; its number is the exit code. `words` begin with the verb, where there is one. */
export type Run = (terminal: Terminal, values: Values, words: string[]) => Promise<number>

/** What a word, or the value of an option, must be. `time` is left to the server, which knows `tomorrow`; a `duration` arrives as an interval. */
export type ValueSpec = {
  /** As usage shows it: RUN, N, TIME. */
  name: string
  kind?: 'text' | 'whole' | 'json' | 'time' | 'duration' | 'uuid' | 'file' | 'directory' | 'run'
  choices?: readonly string[]
  /** Completed, but nothing else is refused: the database knows more of them. */
  suggestions?: readonly string[]
  least?: number
  most?: number
}

export type WordSpec = ValueSpec & { summary: string; optional?: true; many?: true }

/** Without `value` it is a flag. `multiple`: it may come again, and its values may be joined by commas. */
export type OptionSpec = { summary: string; value?: ValueSpec; required?: true; multiple?: true; default?: string }

/** The group role that a login needs for it, besides the owner of the schema. */
export type Role = 'pawl_observer' | 'pawl_operator' | 'pawl_producer'

/** One way of calling a command; its examples are run by a test. */
export type Form = {
  /** The first word: `create` of `pawl campaign create`. */
  verb?: string
  summary: string
  words?: readonly WordSpec[]
  options?: Readonly<Record<string, OptionSpec>>
  examples: readonly string[]
  role?: Role
  /** Takes `--watch [SECONDS]`. */
  watch?: true
}

/** A command of the door: help, parsing, refusals and completion are all made from this. `load` brings its code, and only then. */
export type CommandSpec = {
  group: 'work' | 'look' | 'ask' | 'steer' | 'keep' | 'shell'
  summary: string
  forms: readonly [Form, ...Form[]]
  load(): Promise<Run>
}

export type Commands = Readonly<Record<string, CommandSpec>>

/** What every command takes. */
export const everywhere: Readonly<Record<string, OptionSpec>> = {
  json: { summary: 'answer for machines: one JSON document, with --watch one a line; errors as {"error": {code, message, hint}}, also on standard output' },
  help: { summary: 'this text (-h)' },
}

const watch: OptionSpec = {
  summary: 'look again every SECONDS (1 unless said otherwise) until Ctrl-C, which ends it with exit code 0',
  value: { name: 'SECONDS' },
}

/** The options of a form, those that every command has included. */
export function optionsOf(form: Form): Readonly<Record<string, OptionSpec>> {
  return { ...form.options, ...(form.watch === true ? { watch } : {}), ...everywhere }
}

/** Its value may be left out. */
export const isOptional = (option: string): boolean => option === 'watch'

/** As typed, arguments included: `cancel RUN [--reason TEXT]`. */
export function usageOf(name: string, form: Form): string {
  const words = (form.words ?? []).map(word => {
    const shown = `${word.name}${word.many === true ? ' …' : ''}`
    return word.optional === true ? `[${shown}]` : shown
  })
  const options = Object.entries(optionsOf(form)).flatMap(([option, spec]) => {
    if (Object.hasOwn(everywhere, option)) return []
    const shown = `--${option}${valueOf(option, spec)}`
    return [spec.required === true ? shown : `[${shown}]`]
  })
  return [name, ...(form.verb === undefined ? [] : [form.verb]), ...words, ...options].join(' ')
}

/** What stands behind an option: ` N`, ` a|b`, or ` [SECONDS]`. */
export function valueOf(option: string, { value }: OptionSpec): string {
  if (value === undefined) return ''
  const shown = value.choices !== undefined && value.choices.length <= 5 ? value.choices.join('|') : value.name
  return isOptional(option) ? ` [${shown}]` : ` ${shown}`
}

/** All ways of calling a command in one line. */
export function usageOfAll(name: string, { forms }: CommandSpec): string {
  const lines = forms.map(form => usageOf(name, form))
  const whole = lines.join('  |  ')
  return lines.length === 1 || whole.length < 120 ? whole : `${name} ${forms.map(form => form.verb ?? form.words?.[0]?.name ?? '').join('|')} …`
}
