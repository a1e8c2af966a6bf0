import { createHash, randomBytes } from 'node:crypto'
import { patiently } from '../../../src/batches.ts'
import { openReader, type Reader } from '../../../src/database.ts'
import { newIdentity, seal, sealExtension, type Sealing } from '../../../src/seal.ts'
import type { Draft, Store } from '../../../src/store.ts'
import { version } from '../../../src/version.ts'
import { type Archiving, mark, type Started } from './archiving.ts'
import { hashed, readContent, SETTLED } from './content.ts'
import { removeFiles, writeManifest } from './files.ts'
import { verify } from './verify.ts'

/** How often a long step says that it moves, and learns that it is still ours. */
const TOUCH_EVERY_MS = 5_000

/** Writes the month's file and proves it. What an earlier attempt wrote can't be proven any more (its key is forgotten), so it goes. Returns the file's key. */
export async function writeAndVerify(archiving: Archiving, store: Store, begun: Started): Promise<string> {
  const { config, db, run } = archiving
  const { compression } = config.backup
  const recipients = [...config.backup.recipients]
  // The worker can't open what is encrypted to others: for as long as this attempt lives it is one of those who can.
  const own = recipients.length === 0 ? undefined : await newIdentity(recipients)
  const sealing: Sealing = { compression, recipients: own === undefined ? [] : [...recipients, own.recipient] }
  const key = keyOf(begun, sealing)
  const earlier = await patiently(archiving, () =>
    db.query<{ key: string }>('select key from pawl.begin_archive_file($1, $2, $3) key', [run.runId, run.epoch, key]),
  )
  const over = new AbortController()
  const ours: Archiving = { ...archiving, signal: AbortSignal.any([archiving.signal, over.signal]) }
  const touching = keepTouching(ours, over)
  let isTold = false
  try {
    await removeFiles(
      archiving,
      store,
      earlier.map(file => file.key),
    )
    const written = await write(ours, store, { begun, key, sealing, shown: recipients })
    await verify(ours, store, { relation: begun.relation, key, identities: own === undefined ? [] : [own.identity], ...written })
    await writeManifest(store, written.manifest)
    // Whatever answer comes or is lost from here on, it may be the archive's file by now: nobody removes it on a guess.
    isTold = true
    await patiently(archiving, () => db.query('select pawl.archive_verified($1, $2, $3)', [run.runId, run.epoch, key]))
    archiving.log.info({ partition: begun.partition, key, rows: written.content.rows, bytes: written.manifest.bytes }, 'archive verified')
    return key
  } catch (error) {
    // Nobody goes on with it. Should this fail, the next attempt removes it: its key stands in the database.
    if (!isTold) await removeFiles(archiving, store, [key]).catch(() => {})
    throw touching.lost() ?? error
  } finally {
    over.abort()
    await touching.ended
  }
}

function keyOf({ table, from }: Started, sealing: Sealing): string {
  const name = table.replace(/[^A-Za-z0-9_-]/g, '_')
  const month = new Date(from).toISOString()
  return `archive_${name}_y${month.slice(0, 4)}m${month.slice(5, 7)}_${randomBytes(12).toString('hex')}.csv${sealExtension(sealing)}`
}

/** Throws what the fence says as soon as it says so: the run is another's, and so is the file it will make. */
function keepTouching({ db, run, clock, signal }: Archiving, over: AbortController): { lost(): unknown; ended: Promise<void> } {
  let lost: unknown
  const touch = async () => {
    while (!signal.aborted) {
      await clock.sleep(TOUCH_EVERY_MS, signal)
      if (signal.aborted) return
      await db.query('select pawl.touch_archive($1, $2)', [run.runId, run.epoch]).catch((error: unknown) => {
        if ((error as { code?: string }).code !== 'PW001') return
        lost = error
        over.abort()
      })
    }
  }
  return { lost: () => lost, ended: touch() }
}

type Writing = { begun: Started; key: string; sealing: Sealing; shown: string[] }

/** The month as CSV, with its count and hash from the very snapshot that was written. */
async function write(archiving: Archiving, store: Store, { begun, key, sealing, shown }: Writing) {
  const { config, db, run, signal } = archiving
  const reader = await openReader(config, config.directUrl, `pawl ${run.runId}`)
  const close = () => void reader.close()
  signal.addEventListener('abort', close)
  let draft: Draft | undefined
  try {
    signal.throwIfAborted()
    await reader.query(SETTLED)
    await mark(reader.query, run.runId)
    const content = await readContent(reader.query, begun.relation)
    const { columns, at, server } = await describe(reader, begun.relation)
    draft = await store.create(key, { contentType: 'application/octet-stream' })
    const hash = createHash('sha256')
    const plain = hashed(reader.copyOut(`copy (select * from ${begun.relation}) to stdout with (format csv, header true)`), hash, signal)
    for await (const piece of await seal(plain, sealing)) {
      signal.throwIfAborted()
      await draft.write(piece)
    }
    const { bytes, sha256 } = await draft.publish()
    const csvSha256 = hash.digest('hex')
    const { place } = archiving
    const { rows } = content
    await patiently(archiving, () =>
      db.query('select pawl.archive_written($1, $2, $3)', [run.runId, run.epoch, JSON.stringify({ key, place, rows, bytes, sha256, content })]),
    )
    const { parent, partition, from, to } = begun
    const manifest = {
      format: 1 as const,
      key,
      parent,
      partition,
      from,
      to,
      columns,
      rows,
      bytes,
      sha256,
      csvSha256,
      recipients: shown,
      writtenAt: at,
      server,
      pawl: version,
    }
    return { content, csvSha256, manifest }
  } finally {
    signal.removeEventListener('abort', close)
    await draft?.close()
    await reader.close()
  }
}

async function describe({ query }: Reader, relation: string) {
  const columns = await query<{ name: string; type: string }>(
    `select attname as name, format_type(atttypid, atttypmod) as type from pg_attribute where attrelid = to_regclass($1) and attnum > 0 and not attisdropped order by attnum`,
    [relation],
  )
  const [row] = await query<{ at: Date; server: string }>(`select now() as at, current_setting('server_version') as server`)
  return { columns, at: row?.at.toISOString() ?? '', server: row?.server ?? '' }
}
