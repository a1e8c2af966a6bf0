import type { DirectConnection } from './database.ts'
import { PawlError } from './errors.ts'

const SELF_TEST_ROUNDS = 5

export const POOLER_HINT = 'set DATABASE_DIRECT_URL to PostgreSQL itself, or to a pooler in session mode'

/** What is thrown when session locks turn out to be worth nothing. */
export function poolerFound(): PawlError {
  return new PawlError('database.pooler', 'a transaction pooler stands between Pawl and PostgreSQL: session locks do not hold through it', {
    hint: POOLER_HINT,
  })
}

/**
 * A transaction pooler gives one server session to several clients, so that a lock taken by one is held by all of them.
 * Asked before the first lock or `set`, because both would stay behind in the pooler's sessions. An open transaction pins the
 * server session it was given: if that is the first one's, the first must get another. With other clients about, the pooler
 * may by chance hand out the same ones again, hence several rounds (six clients at once, 30 times: one round missed 2 of 180, three missed none).
 */
export async function refuseSharedSession(first: DirectConnection, connectSecond: () => Promise<DirectConnection>): Promise<void> {
  const backend = async (connection: DirectConnection, prefix = '') =>
    (await connection.query<{ pid: number }>(`${prefix} select pg_backend_pid() as pid`))[0]?.pid
  const home = await backend(first)
  const second = await connectSecond()
  try {
    for (let round = 0; round < SELF_TEST_ROUNDS; round++) {
      if ((await backend(second, 'begin;')) === home || (await backend(first)) !== home) throw poolerFound()
      await second.query('rollback')
    }
  } finally {
    // Its end also ends the transaction that may be open.
    await second.close()
  }
}
