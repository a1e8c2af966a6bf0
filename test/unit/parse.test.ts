import { expect, test } from 'vitest'
import { commands } from '../../bin/commands/index.ts'
import { nearest } from '../../bin/nearest.ts'
import { parse } from '../../bin/parse.ts'
import { type CommandSpec, isOptional, optionsOf, usageOf } from '../../bin/spec.ts'
import { helpOf } from '../../bin/help.ts'
import { shellWords } from '../support/shell-words.ts'

const all = Object.entries(commands)

/** Understands a line as the shell would hand it over. */
function said(line: string) {
  const [name = '', ...words] = shellWords(line.replace(/^pawl /, ''))
  const command = commands[name] as CommandSpec
  return parse(name, command, words)
}

const refusal = (line: string): { code: string; message: string; hint: string } => {
  try {
    said(line)
  } catch (error) {
    return error as never
  }
  throw new Error(`${line} was not refused`)
}

test('every command says what it is, and every form has an example that is understood as that form', () => {
  for (const [name, command] of all) {
    expect(command.summary, name).toMatch(/\S/)
    for (const form of command.forms) {
      expect(form.examples.length, usageOf(name, form)).toBeGreaterThan(0)
      for (const example of form.examples) expect(said(example).form, example).toBe(form)
    }
    const examples = command.forms.flatMap(form => form.examples)
    expect(examples.length, `${name} has two examples or more`).toBeGreaterThanOrEqual(2)
  }
})

test('help shows usage, words, options and examples of every command and of each verb', () => {
  for (const [name, command] of all) {
    for (const form of [undefined, ...command.forms]) {
      const text = helpOf(name, command, form)
      for (const one of form === undefined ? command.forms : [form]) {
        expect(text).toContain(`pawl ${usageOf(name, one)}\n`)
        for (const example of one.examples) expect(text).toContain(`  ${example}\n`)
        for (const [option, { summary }] of Object.entries(optionsOf(one)))
          expect(text).toMatch(new RegExp(`--${option}.*${summary.slice(0, 10).replaceAll(/\W/g, '.')}`))
        for (const word of one.words ?? []) expect(text).toContain(word.summary)
      }
    }
  }
})

test('no two forms of a command disagree on whether an option takes a value', () => {
  for (const [name, { forms }] of all) {
    const seen = new Map<string, boolean>()
    for (const form of forms) {
      for (const [option, { value }] of Object.entries(optionsOf(form))) {
        expect(seen.get(option) ?? value !== undefined, `${name} --${option}`).toBe(value !== undefined)
        seen.set(option, value !== undefined)
        expect(isOptional(option)).toBe(option === 'watch')
      }
    }
  }
})

test('every command refuses a word too many, an unknown option, an option without its value and one it has no use for', () => {
  for (const [name, command] of all) {
    for (const form of command.forms) {
      const called = `pawl ${name}${form.verb === undefined ? '' : ` ${form.verb}`}`
      const [example = ''] = form.examples
      expect(refusal(`${example} --nope`)).toMatchObject({
        code: 'usage',
        message: `there is no option --nope of ${called}`,
        hint: expect.stringContaining('usage: pawl'),
      })
      if (form.words?.at(-1)?.many !== true) {
        const surplus = `${example}${' surplus'.repeat((form.words?.length ?? 0) + 1)}`
        expect(refusal(surplus).message, surplus).toMatch(/has no use for the word "surplus"|must be/)
      }
      for (const [option, { value }] of Object.entries(optionsOf(form))) {
        const plain = example.replaceAll(new RegExp(` --${option}( '[^']*'| [^-]\\S*)?`, 'g'), '')
        if (value === undefined) expect(refusal(`${plain} --${option}=yes`).message).toBe(`--${option} takes no value`)
        else if (!isOptional(option)) {
          expect(refusal(`${plain} --${option}`).message).toBe(`--${option} needs a value: ${value.name}`)
          expect(refusal(`${plain} --${option} --json`)).toMatchObject({
            message: `--${option} needs a value: ${value.name}`,
            hint: expect.stringContaining(`--${option}=--json`),
          })
          expect(refusal(`${plain} --${option}=`).message).toBe(`--${option} needs a value: ${value.name}`)
        }
      }
    }
  }
})

const refusals: [string, string, string][] = [
  ['pawl backups prune', 'pawl backups has no use for the word "prune"', 'did you mean --prune?'],
  ['pawl status --wach', 'there is no option --wach of pawl status', 'did you mean --watch?'],
  ['pawl status -w', 'there is no option -w of pawl status', 'usage: pawl status'],
  ['pawl cancel', 'the run is missing', 'usage: pawl cancel RUN [--reason TEXT]'],
  ['pawl cancel ""', 'the run is missing', 'usage: pawl cancel RUN'],
  ['pawl migrate', 'what to do is missing: pawl migrate plan|up|down|status|verify', 'pawl help migrate'],
  ['pawl migrate --json', 'what to do is missing', 'usage'],
  ['pawl migrate stauts', 'migrate has no verb "stauts", only plan|up|down|status|verify', 'did you mean status?'],
  ['pawl campaign timers --hours 3', 'pawl campaign timers has no option --hours', 'it belongs to: pawl campaign create --hours N'],
  ['pawl campaign create', '--hours is missing', 'usage: pawl campaign create'],
  ['pawl campaign create --hours 1.5', '--hours must be a whole number of 1 or more, not "1.5"', 'usage'],
  ['pawl campaign create --hours -1', '--hours must be a whole number of 1 or more, not "-1"', 'usage'],
  ['pawl campaign create --hours 99999999999999999999', '--hours must be a whole number', 'usage'],
  ['pawl campaign create --hours 2 --hours 3', '--hours is given 2 times', 'usage'],
  ['pawl campaign create --hours 1 --metadata {oops', '--metadata is not JSON: {oops', 'quote it for the shell'],
  ['pawl campaign schedule 1 START_CAMPAIGN 2099-01-01', 'the campaign must be an id such as', 'usage'],
  [
    'pawl campaign schedule 6f1c2d3e-0000-4000-8000-000000000000 START_CAMPAIN 2099-01-01',
    'the type must be START_CAMPAIGN, CLOSE_CAMPAIGN',
    'did you mean START_CAMPAIGN?',
  ],
  ['pawl override first --user 1', 'the category must be a whole number of 1 or more, not "first"', 'usage: pawl override CATEGORY'],
  ['pawl override 1 --user 1 --batch-size 1001', '--batch-size must be a whole number from 1 to 1000, not "1001"', 'usage'],
  ['pawl timers --next soon', '--next must be a duration, not "soon"', "'1 hour'"],
  ['pawl timers --next "1 fortnight"', '--next must be a duration', '7d'],
  ['pawl runs --state faild', '--state must be pending, running, completed, failed or cancelled, not "faild"', 'did you mean failed?'],
  ['pawl runs --state failed,', '--state needs a value: STATE', 'usage'],
  ['pawl runs --limit 0', '--limit must be a whole number from 1 to 10000, not "0"', 'usage'],
  ['pawl status --watch=0', '--watch must be a number of seconds, 0.1 or more, not "0"', 'usage'],
  ['pawl status --watch=soon', '--watch must be a number of seconds', 'usage'],
  ['pawl completion bsh', 'the shell must be bash, zsh or fish, not "bsh"', 'did you mean bash'],
  ['pawl report run R', '--as is missing: who executes it', 'usage'],
  ['pawl restore latest', '--into is missing: the name of the new database', 'usage'],
]

test.each(refusals)('%s is refused: what is wrong, and the next step', (line, message, hint) => {
  const told = refusal(line)
  expect(told.code).toBe('usage')
  expect(told.message).toContain(message)
  expect(told.hint).toContain(hint)
})

test('options stand anywhere, take their value with = or behind them, and end at --', () => {
  expect(said('pawl report --as ada run R --format=csv')).toMatchObject({ words: ['run', 'R'], values: { as: 'ada', format: 'csv' } })
  expect(said('pawl override --user 1 revert ovr_42')).toMatchObject({ words: ['revert', 'ovr_42'], values: { user: '1' } })
  expect(said(`pawl cancel ovr_42 --reason=--json`)).toMatchObject({ values: { reason: '--json' } })
  expect(said('pawl cancel --reason wrong -- --odd')).toMatchObject({ words: ['--odd'], values: { reason: 'wrong' } })
  expect(said('pawl cancel -- --help')).toMatchObject({ words: ['--help'], help: false })
  expect(said('pawl runs --state running,pending --state failed').values.state).toEqual(['running', 'pending', 'failed'])
})

test('--watch may have seconds behind it; a word that is no number is none', () => {
  expect(said('pawl status --watch').values.watch).toBe('1')
  expect(said('pawl status --watch 5').values.watch).toBe('5')
  expect(said('pawl status --watch=0.2').values.watch).toBe('0.2')
  expect(said('pawl status --watch ovr_42')).toMatchObject({ words: ['ovr_42'], values: { watch: '1' } })
  expect(said('pawl refresh --watch 2 plan 7')).toMatchObject({ words: ['plan', '7'], values: { watch: '2' } })
})

test('a duration is what PostgreSQL reads as an interval', () => {
  for (const [text, seconds] of [
    ['90s', '90 seconds'],
    ['15m', '900 seconds'],
    ['1 hour', '3600 seconds'],
    ['12 hours', '43200 seconds'],
    ['1.5h', '5400 seconds'],
    ['7d', '604800 seconds'],
    ['2 weeks', '1209600 seconds'],
  ]) {
    expect(said(`pawl timers --next '${text}'`).values.next).toBe(seconds)
  }
})

test('words that are near are suggested, others are not', () => {
  const words = ['status', 'stuck', 'stop', 'resume', 'why']
  expect(nearest('stat', words)).toEqual(['status', 'stop'])
  expect(nearest('satus', words)).toEqual(['status'])
  expect(nearest('ersume', words)).toEqual(['resume'])
  expect(nearest('x', words)).toEqual([])
  expect(nearest('elephant', words)).toEqual([])
})
