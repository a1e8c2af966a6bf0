import type { OptionSpec, WordSpec } from '../spec.ts'

/** The words that more than one command takes. */
export const run: WordSpec = {
  name: 'RUN',
  kind: 'run',
  summary: "a run's id as pawl.runs has it: of an operation, a timer, an execution, a refresh step, a backup",
}

/** A flag. */
export const flag = (summary: string): OptionSpec => ({ summary })

/** An option with any text for its value. */
export const text = (name: string, summary: string): OptionSpec => ({ summary, value: { name } })

/** A whole number between `least` and `most`. */
export const whole = (summary: string, least: number, most?: number): OptionSpec => ({
  summary,
  value: { name: 'N', kind: 'whole', least, ...(most === undefined ? {} : { most }) },
})

/** One of some words. */
export const choice = (name: string, choices: readonly string[], summary: string): OptionSpec => ({ summary, value: { name, choices } })

/** JSON in one word of the shell. */
export const json = (summary: string): OptionSpec => ({ summary, value: { name: 'JSON', kind: 'json' } })

/** A file that is read or written. */
export const file = (summary: string): OptionSpec => ({ summary, value: { name: 'FILE', kind: 'file' } })

/** How long: `90s`, `1 hour`, `7d`. */
export const duration = (summary: string): OptionSpec => ({ summary, value: { name: 'DURATION', kind: 'duration' } })

/** How many rows a list has at most. */
export const limit = (rows = 50): OptionSpec => ({ ...whole('rows at most', 1, 10_000), default: String(rows) })

/** Where backups are, if not where the environment says. */
export const from: OptionSpec = {
  summary: 'another place than that of BACKUP_DIR or BACKUP_S3_BUCKET: a directory, or s3://bucket/prefix',
  value: { name: 'PLACE', kind: 'directory' },
}

/** The private key of encrypted backups. */
export const identity = file('the private key of age that opens it; without it, PAWL_BACKUP_IDENTITY')
