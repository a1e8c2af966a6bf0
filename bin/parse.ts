import { didYouMean } from './nearest.ts'
import { type CommandSpec, everywhere, type Form, isOptional, optionsOf, usageOf, usageOfAll } from './spec.ts'
import { usageError, type Values } from './terminal.ts'
import { checked } from './values.ts'

/** A call that was understood. With `help`, nothing but the form was looked for. */
export type Call = { form: Form | undefined; values: Values; words: string[]; help: boolean }

/** Understands what stands behind the name of a command. Throws a usage error that names what is wrong, and the next step. */
export function parse(name: string, spec: CommandSpec, given: readonly string[]): Call {
  const verb = firstWord(spec, given)
  const named = spec.forms.find(form => form.verb !== undefined && form.verb === verb)
  const plain = spec.forms.find(form => form.verb === undefined)
  const end = given.indexOf('--')
  if (given.slice(0, end === -1 ? undefined : end).some(word => word === '--help' || word === '-h')) {
    return { form: named ?? (spec.forms.length === 1 ? plain : undefined), values: {}, words: [], help: true }
  }
  const form = named ?? plain
  if (form === undefined) throw noVerb(name, spec, verb)
  const { values, words } = split(name, spec, form, given)
  return { form, words: checkWords(name, form, words), values: checkOptions(name, form, values), help: false }
}

function noVerb(name: string, spec: CommandSpec, verb: string | undefined) {
  const verbs = spec.forms.flatMap(form => form.verb ?? [])
  const usage = `usage: pawl ${usageOfAll(name, spec)}`
  if (verb === undefined) return usageError(`what to do is missing: pawl ${name} ${verbs.join('|')}`, `${usage}; "pawl help ${name}" has examples`)
  return usageError(`${name} has no verb "${verb}", only ${verbs.join('|')}`, `${didYouMean(verb, verbs)}${usage}`)
}

/** The verb may stand behind options, and whether one of those takes the next word is known before the form is: no two forms disagree in that. */
function firstWord(spec: CommandSpec, given: readonly string[]): string | undefined {
  const options = Object.assign({}, ...spec.forms.map(optionsOf)) as ReturnType<typeof optionsOf>
  for (let at = 0; at < given.length; at++) {
    const word = given[at] ?? ''
    if (word === '--') return given[at + 1]
    if (!isOption(word)) return word
    const option = word.slice(2)
    if (options[option]?.value !== undefined && (!isOptional(option) || isSeconds(given[at + 1]))) at++
  }
  return undefined
}

/** A negative number is no option. */
const isOption = (word: string) => word.length > 1 && word.startsWith('-') && !/^-\d/.test(word)

const isSeconds = (word: string | undefined): word is string => word !== undefined && /^\d{1,5}(\.\d{1,3})?$/.test(word)

type Given = { values: Record<string, string[] | true>; words: string[] }

function split(name: string, spec: CommandSpec, form: Form, given: readonly string[]): Given {
  const options = optionsOf(form)
  const usage = `usage: pawl ${usageOf(name, form)}`
  const found: Given = { values: {}, words: [] }
  for (let at = 0; at < given.length; at++) {
    const word = given[at] ?? ''
    if (word === '--') {
      found.words.push(...given.slice(at + 1))
      break
    }
    if (!isOption(word)) {
      found.words.push(word)
      continue
    }
    const [, option = '', , inline] = /^--([^=]+)(=([\s\S]*))?$/.exec(word) ?? [word, word]
    const known = Object.hasOwn(options, option) ? options[option] : undefined
    if (known === undefined) throw unknownOption(name, spec, form, option)
    if (known.value === undefined) {
      if (inline !== undefined) throw usageError(`--${option} takes no value`, usage)
      found.values[option] = true
    } else if (inline !== undefined) add(found, option, inline)
    else if (isOptional(option)) {
      const next = given[at + 1]
      if (isSeconds(next)) at++
      add(found, option, isSeconds(next) ? next : '1')
    } else {
      const next = given[++at]
      if (next === undefined || next === '--' || isOption(next)) {
        const instead = next === undefined || next === '--' ? '' : `; for a value that begins so, write --${option}=${next}`
        throw usageError(`--${option} needs a value: ${known.value.name}`, `${usage}${instead}`)
      }
      add(found, option, next)
    }
  }
  if (form.verb !== undefined) found.words.shift()
  return found
}

function add({ values }: Given, option: string, text: string): void {
  const before = values[option]
  values[option] = [...(Array.isArray(before) ? before : []), text]
}

function unknownOption(name: string, spec: CommandSpec, form: Form, option: string) {
  const other = spec.forms.find(one => Object.hasOwn(optionsOf(one), option))
  const usage = `usage: pawl ${usageOf(name, form)}`
  const called = [name, ...(form.verb === undefined ? [] : [form.verb])].join(' ')
  if (other !== undefined) return usageError(`pawl ${called} has no option --${option}`, `it belongs to: pawl ${usageOf(name, other)}`)
  const shown = option.startsWith('-') ? option : `--${option}`
  const known = Object.keys(optionsOf(form))
  const close = didYouMean(option.replace(/^-+/, ''), known).replaceAll(/(mean | or )/g, '$1--')
  return usageError(`there is no option ${shown} of pawl ${called}`, `${close}${usage}`)
}

function checkOptions(name: string, form: Form, given: Given['values']): Values {
  const usage = `usage: pawl ${usageOf(name, form)}`
  const values: Values = {}
  for (const [option, spec] of Object.entries(optionsOf(form))) {
    const texts = given[option]
    if (texts === undefined) {
      if (spec.required === true) throw usageError(`--${option} is missing: ${spec.summary}`, usage)
      continue
    }
    if (texts === true || spec.value === undefined) {
      values[option] = true
      continue
    }
    const { value } = spec
    if (texts.length > 1 && spec.multiple !== true) throw usageError(`--${option} is given ${texts.length} times`, usage)
    const all = spec.multiple === true ? texts.flatMap(text => text.split(',').map(part => part.trim())) : texts
    if (all.some(text => text.trim() === '')) throw usageError(`--${option} needs a value: ${value.name}`, usage)
    if (option === 'watch' && !(isSeconds(all[0]) && Number(all[0]) >= 0.1)) {
      throw usageError(`--watch must be a number of seconds, 0.1 or more, not "${all[0]}"`, usage)
    }
    const right = all.map(text => checked(text, `--${option}`, value, usage))
    values[option] = spec.multiple === true ? right : right[0]
  }
  return values
}

function checkWords(name: string, form: Form, words: string[]): string[] {
  const usage = `usage: pawl ${usageOf(name, form)}`
  const wanted = form.words ?? []
  const last = wanted.at(-1)
  const surplus = last?.many === true ? undefined : words[wanted.length]
  if (surplus !== undefined) {
    const called = [name, ...(form.verb === undefined ? [] : [form.verb])].join(' ')
    const own = Object.keys(optionsOf(form)).filter(option => !Object.hasOwn(everywhere, option))
    const close = own.includes(surplus) ? `did you mean --${surplus}? ` : ''
    throw usageError(`pawl ${called} has no use for the word "${surplus}"`, `${close}${usage}`)
  }
  for (const [place, spec] of wanted.entries()) {
    if (spec.optional !== true && (words[place] ?? '') === '') throw usageError(`the ${spec.name.toLowerCase()} is missing: ${spec.summary}`, usage)
  }
  return [
    ...(form.verb === undefined ? [] : [form.verb]),
    ...words.map((word, place) => {
      const spec = wanted[place] ?? last
      return spec === undefined ? word : checked(word, `the ${spec.name.toLowerCase()}`, spec, usage)
    }),
  ]
}
