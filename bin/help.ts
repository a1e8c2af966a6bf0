import { type Commands, type CommandSpec, everywhere, type Form, type OptionSpec, optionsOf, usageOf, valueOf, type WordSpec } from './spec.ts'

const groups: readonly (readonly [CommandSpec['group'], string])[] = [
  ['work', 'Run it'],
  ['look', 'Look'],
  ['ask', 'Ask for work'],
  ['steer', 'Steer'],
  ['keep', 'Look after the database'],
  ['shell', 'The shell'],
]

/** All commands, each in one line. */
export function overview(commands: Commands): string {
  const width = Math.max(...Object.keys(commands).map(name => name.length))
  return [
    'pawl: a durable worker daemon on PostgreSQL',
    '',
    'usage: pawl COMMAND [WORDS] [OPTIONS]',
    ...groups.flatMap(([group, title]) => {
      const own = Object.entries(commands).filter(([, command]) => command.group === group)
      return own.length === 0 ? [] : ['', title, ...own.map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`)]
    }),
    '',
    'pawl help COMMAND has its words, options and examples. --json everywhere for machines, --watch [SECONDS] where it helps.',
    'Exit codes: 0 ok, 1 failed, 2 bad usage or refused, 3 a difference was found, 4 could not verify.',
    '',
  ].join('\n')
}

/** One command, or one verb of it: usage, what each word and option means, examples. */
export function helpOf(name: string, command: CommandSpec, form: Form | undefined): string {
  const forms = form === undefined ? command.forms : [form]
  const title = form?.verb === undefined ? `pawl ${name}: ${command.summary}` : `pawl ${name} ${form.verb}: ${form.summary}`
  return [
    title,
    '',
    'usage',
    ...forms.map(one => `  pawl ${usageOf(name, one)}`),
    ...forms.flatMap(one =>
      forms.length === 1 ? partsOf(one) : ['', `${[name, one.verb ?? one.words?.[0]?.name].join(' ')}: ${one.summary}`, ...columns(linesOf(one))],
    ),
    '',
    'everywhere',
    ...columns(Object.entries(everywhere).map(optionLine)),
    '',
    'examples',
    ...forms.flatMap(one => one.examples.map(example => `  ${example}`)),
    ...rolesOf(forms),
    '',
  ].join('\n')
}

function partsOf(form: Form): string[] {
  const words = (form.words ?? []).map(wordLine)
  const options = linesOf(form).slice(words.length)
  return [...(words.length === 0 ? [] : ['', 'words', ...columns(words)]), ...(options.length === 0 ? [] : ['', 'options', ...columns(options)])]
}

function linesOf(form: Form): [string, string][] {
  const options = Object.entries(optionsOf(form)).filter(([option]) => !Object.hasOwn(everywhere, option))
  return [...(form.words ?? []).map(wordLine), ...options.map(optionLine)]
}

function wordLine({ name, summary, choices }: WordSpec): [string, string] {
  return [name, choices === undefined ? summary : `${summary}: ${choices.join(', ')}`]
}

function optionLine([option, spec]: [string, OptionSpec]): [string, string] {
  const { summary, value, required, multiple } = spec
  const shown = valueOf(option, spec)
  const notes = [
    ...(required === true ? ['required'] : []),
    ...(multiple === true ? ['several by commas'] : []),
    ...(spec.default === undefined ? [] : [`default ${spec.default}`]),
  ]
  const choices = value?.choices !== undefined && value.choices.length > 5 ? `: ${value.choices.join(', ')}` : ''
  return [`--${option}${shown}`, `${summary}${choices}${notes.length === 0 ? '' : ` (${notes.join(', ')})`}`]
}

function columns(rows: [string, string][]): string[] {
  const width = Math.min(34, Math.max(...rows.map(([left]) => left.length)))
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`)
}

function rolesOf(forms: readonly Form[]): string[] {
  const roles = [...new Set(forms.flatMap(form => form.role ?? []))]
  const told = roles.map(role => {
    const verbs = forms.flatMap(form => (form.role === role && form.verb !== undefined ? [form.verb] : []))
    return forms.length === 1 || verbs.length === 0 ? role : `${role} (${verbs.join(', ')})`
  })
  return told.length === 0 ? [] : ['', `role: ${told.join('; ')}`]
}
