import { classify, codeOf, messageOf, PawlError } from '../../../src/errors.ts'

const GRANT = 'grant pg_read_all_data to the role that takes backups, or let the owner of the database take them'

/** What a failed backup says of why. What names its reason already (`store.…`, `tools.missing`, `seal.…`) is left as it is. */
export function takeTrouble(error: unknown): unknown {
  const message = messageOf(error)
  if (error instanceof PawlError) {
    if (error.code === 'tools.killed') return new PawlError('backup.dump', message, { retryable: true, ...hintOf(error), cause: error })
    if (error.code !== 'tools.failed') return error
    const hint = /permission denied/.test(message) ? { hint: GRANT } : hintOf(error)
    return new PawlError('backup.dump', message, { retryable: error.retryable, ...hint, cause: error })
  }
  if (codeOf(error) === '42501') return new PawlError('backup.denied', `not everything may be read: ${message}`, { hint: GRANT, cause: error })
  return classify(error) === 'transient' ? connectionLost(error) : error
}

const hintOf = ({ hint }: PawlError) => (hint === undefined ? {} : { hint })

/** The database went away, or did not answer. */
export function connectionLost(cause: unknown): PawlError {
  return new PawlError('backup.connection', `the database can't be read on: ${messageOf(cause)}`, {
    retryable: true,
    hint: 'is the server up, and reachable at DATABASE_DIRECT_URL for as long as a backup takes?',
    cause,
  })
}

export function tooLong(limitMs: number): PawlError {
  return new PawlError('backup.too_long', `it was not done after ${limitMs / 3_600_000} hours, and its snapshot holds back vacuum everywhere`, {
    hint: 'raise PAWL_BACKUP_HOURS, or take physical backups of a database of this size (docs/recovery.md)',
  })
}
