import { answer, exitCodes } from '../terminal.ts'
import type { Run } from '../spec.ts'
import { connected } from './connect.ts'

/** `pawl override …`: the contract's request_override and revert_override. */
export const override: Run = (terminal, { user, settings, 'batch-size': batchSize, key }, [first, operation]) =>
  connected(terminal, async db => {
    const [row] =
      first === 'revert'
        ? await db.query<{ id: string }>('select pawl.revert_override($1, $2) as id', [operation, user])
        : await db.query<{ id: string }>('select pawl.request_override($1, $2, $3, $4, null, $5, $6) as id', [
            first,
            user,
            settings ?? null,
            batchSize ?? 100,
            'pawl cli',
            key ?? null,
          ])
    answer(terminal, { operation_id: row?.id }, `${row?.id}\n  follow it with: pawl status ${row?.id} --watch`)
    return exitCodes.ok
  })
