import { openReader, type Reader } from '../../../../src/database.ts'
import { classify, codeOf, messageOf, PawlError } from '../../../../src/errors.ts'
import type { SourceContext } from '../../source.ts'

/** The readers of one extraction, one a lane, all on one view of the source while that can be had. */
export type Connections = {
  /** Runs `work` on the lane's reader; where its connection is lost, once more on a new one. */
  use<Result>(lane: number, work: (reader: Reader) => Promise<Result>, signal: AbortSignal): Promise<Result>
  /** How many views of the source this worker has read from: 1 unless connections were lost or another worker began. */
  snapshots(): number
  /** What another worker's readers may share while this one lives. */
  snapshot(): string | undefined
  close(): Promise<void>
}

const HINT = 'see that the source is up and that this worker may connect to it'

/** Throws `refresh.source_unknown`, naming the variable, where the environment has no such source. */
export function urlOf(connection: string, context: SourceContext): string {
  const url = context.config.sourceUrls[connection.toLowerCase()]
  if (url !== undefined) return url
  const variable = `PAWL_SOURCE_${connection.toUpperCase()}`
  throw new PawlError('refresh.source_unknown', `${context.table} is read from ${connection}, but ${variable} is not set`, {
    hint: `set ${variable}=postgres://user:password@host:5432/name where the workers run`,
  })
}

/**
 * Opens readers as lanes need them. While one reader of the snapshot lives, all others import it, those of other workers too. When all
 * are gone (the source restarted, the worker died), reading goes on by key in a new snapshot: rows that changed in between are read
 * as they are now, and one that moved across the position by a change of its key may be missing or doubled. The number of rows that
 * was counted at the beginning and the uniqueness of the key, checked when everything is staged, show what did not fit.
 */
export function connect(connection: string, context: SourceContext): Connections {
  const url = urlOf(connection, context)
  const readers = new Map<number, Promise<Reader>>()
  let snapshot = typeof context.saved.snapshot === 'string' ? context.saved.snapshot : undefined
  const seen = new Set<string>()
  const closing = new Set<Promise<void>>()
  let isClosed = false

  function discard(lane: number): void {
    const gone = readers
      .get(lane)
      ?.then(reader => reader.close())
      .catch(() => {})
    readers.delete(lane)
    if (gone === undefined) return
    closing.add(gone)
    void gone.then(() => closing.delete(gone))
  }

  async function open(): Promise<Reader> {
    const name = `pawl refresh ${context.name}`
    const reader = await openReader(context.config, url, name, snapshot).catch(error => {
      if (snapshot === undefined || !['22023', '42704', '55000', '58P01'].includes(codeOf(error) ?? '')) throw error
      return openReader(context.config, url, name)
    })
    try {
      await settle(reader)
      const [row] = await reader.query<{ snapshot: string; view: string }>('select pg_export_snapshot() as snapshot, pg_current_snapshot()::text as view')
      snapshot = row?.snapshot
      seen.add(row?.view ?? '')
      return reader
    } catch (error) {
      await reader.close()
      throw error
    }
  }

  async function attempt<Result>(lane: number, work: (reader: Reader) => Promise<Result>): Promise<Result> {
    // One lane failed and the reading was closed: another lane must not open it again.
    if (isClosed) throw new PawlError('refresh.source_closed', `the reading of ${context.table} is closed`)
    try {
      const opening = readers.get(lane) ?? open()
      readers.set(lane, opening)
      return await work(await opening)
    } catch (error) {
      // Whatever went wrong, the reader's transaction is over.
      discard(lane)
      throw error
    }
  }

  return {
    async use(lane, work, signal) {
      // A server that no longer answers would keep the worker from stopping: the socket is cut instead.
      const aborted = Promise.withResolvers<never>()
      aborted.promise.catch(() => {})
      const abort = () => {
        aborted.reject(signal.reason)
        discard(lane)
      }
      signal.throwIfAborted()
      signal.addEventListener('abort', abort, { once: true })
      try {
        return await Promise.race([
          aborted.promise,
          attempt(lane, work).catch(error => {
            if (signal.aborted || classify(error) !== 'transient') throw error
            context.log.warn({ table: context.table, source: connection, error: messageOf(error) }, 'source connection lost; opened again')
            return attempt(lane, work)
          }),
        ])
      } catch (error) {
        throw signal.aborted ? error : told(error, connection, url, context)
      } finally {
        signal.removeEventListener('abort', abort)
      }
    },
    snapshots: () => seen.size,
    snapshot: () => snapshot,
    async close() {
      isClosed = true
      for (const lane of readers.keys()) discard(lane)
      await Promise.all(closing)
    },
  }
}

/** Text that any PostgreSQL reads back exactly, and no time limit of the source on a reader that waits for its target. */
async function settle(reader: Reader): Promise<void> {
  await reader.query(`
    select set_config(name, value, true)
    from pg_catalog.pg_settings
    join (values
      ('datestyle', 'ISO, YMD'), ('intervalstyle', 'postgres'), ('timezone', 'UTC'), ('extra_float_digits', '1'), ('bytea_output', 'hex'),
      ('statement_timeout', '0'), ('lock_timeout', '0'), ('idle_in_transaction_session_timeout', '0'), ('transaction_timeout', '0')
    ) wanted (own, value) on lower(name) = own`)
}

/** What the driver threw, without the connection string: some of its errors carry it. */
function told(error: unknown, connection: string, url: string, { table }: SourceContext): unknown {
  if (error instanceof PawlError) return error
  const [password, decoded] = passwordsOf(url)
  let message = messageOf(error).replaceAll(url, '[its URL]')
  for (const secret of [password, decoded]) if (secret !== undefined && secret !== '') message = message.replaceAll(secret, '[redacted]')
  const retryable = classify(error) === 'transient'
  const code = codeOf(error)
  if (!retryable && code === undefined) return error
  return new PawlError(
    retryable ? 'refresh.source_lost' : 'refresh.source_refused',
    `${table} can't be read from ${connection}: ${message}${code === undefined ? '' : ` (${code})`}`,
    {
      retryable,
      hint: retryable
        ? HINT
        : /^(28|3D|ERR_)/.test(code ?? '')
          ? `correct PAWL_SOURCE_${connection.toUpperCase()}`
          : 'correct custom_sync_params of this table in sqp.refresh_config',
    },
  )
}

function passwordsOf(url: string): (string | undefined)[] {
  const password = URL.parse(url)?.password ?? /^[^:]+:\/\/[^:@/]*:(.*)@/.exec(url)?.[1]
  try {
    return [password, password === undefined ? undefined : decodeURIComponent(password)]
  } catch {
    return [password, undefined]
  }
}
