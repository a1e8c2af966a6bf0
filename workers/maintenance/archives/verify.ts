import { createHash } from 'node:crypto'
import { connectDirect } from '../../../src/database.ts'
import { PawlError } from '../../../src/errors.ts'
import { unseal } from '../../../src/seal.ts'
import type { Store } from '../../../src/store.ts'
import { type Archiving, mark } from './archiving.ts'
import { type Content, hashed, readContent, sameContent, SETTLED } from './content.ts'

export type Verifying = { relation: string; key: string; identities: string[]; content: Content; csvSha256: string }

/**
 * Reads the file back from the store, opens it and loads it into a table of the same columns: what counts is not that the bytes are those
 * that were sent, but that the rows can be had back from them. The table is a temporary one, which goes with its connection whatever happens
 * to this process. Throws `archive.different`.
 */
export async function verify(archiving: Archiving, store: Store, { relation, key, identities, content, csvSha256 }: Verifying): Promise<void> {
  const { config, run, signal } = archiving
  const connection = await connectDirect(config, `pawl ${run.runId}`)
  const cut = () => connection.abort()
  signal.addEventListener('abort', cut)
  try {
    signal.throwIfAborted()
    await connection.query(SETTLED)
    await mark(connection.query, run.runId)
    await connection.query(`create temporary table pawl_archive (like ${relation})`)
    const hash = createHash('sha256')
    const taken = await connection.copyIn(
      'copy pg_temp.pawl_archive from stdin with (format csv, header true)',
      hashed(unseal(store.read(key), key, identities), hash, signal),
    )
    const readBack = await readContent(connection.query, 'pg_temp.pawl_archive')
    if (taken !== content.rows || !sameContent(readBack, content) || hash.digest('hex') !== csvSha256) {
      throw new PawlError('archive.different', `${key} holds ${readBack.rows} rows that are not the ${content.rows} of ${relation}`, {
        hint: `the file was removed and the table stays; look at the store, then: select pawl.retry('${run.runId}')`,
      })
    }
  } finally {
    signal.removeEventListener('abort', cut)
    await connection.close()
  }
}
