import { answer, type Command, exitCodes, jsonOption, usageError, type Values, wordAt } from '../run.ts'
import { connected } from './connect.ts'

const USAGE = 'override CATEGORY --user USER [--settings JSON] [--batch-size N] [--key KEY]  |  override revert OPERATION --user USER'

/** `pawl override …`: the contract's request_override and revert_override. */
export const override: Command = {
  usage: USAGE,
  summary: "apply a category's settings to its recipients, or take that back",
  example: `pawl override 3 --user 1 --settings '{"channel": "email"}' --batch-size 500`,
  quiet: true,
  options: { user: { type: 'string' }, settings: { type: 'string' }, 'batch-size': { type: 'string' }, key: { type: 'string' } },
  run: (terminal, values, words) =>
    connected(terminal, async db => {
      const first = wordAt(words, 0, 'the category', USAGE)
      const user = wholeNumber(values.user, '--user')
      const [row] =
        first === 'revert'
          ? await db.query<{ id: string }>('select pawl.revert_override($1, $2) as id', [wordAt(words, 1, 'the operation', USAGE), user])
          : await db.query<{ id: string }>('select pawl.request_override($1, $2, $3, $4, null, $5, $6) as id', [
              wholeNumber(first, 'the category'),
              user,
              jsonOption(values.settings, '--settings', '{"channel": "email"}'),
              values['batch-size'] === undefined ? 100 : wholeNumber(values['batch-size'], '--batch-size'),
              'pawl cli',
              values.key ?? null,
            ])
      answer(terminal, { operation_id: row?.id }, `${row?.id}\n  follow it with: pawl status --watch`)
      return exitCodes.ok
    }),
}

function wholeNumber(text: Values[string], what: string): number {
  const number = Number(text)
  if (text === undefined || !Number.isSafeInteger(number))
    throw usageError(`${what} must be a whole number, not ${text === undefined ? 'missing' : `"${String(text)}"`}`, `usage: pawl ${USAGE}`)
  return number
}
