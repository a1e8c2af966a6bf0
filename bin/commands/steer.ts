import { answer, exitCodes } from '../terminal.ts'
import type { Run } from '../spec.ts'
import { connected } from './connect.ts'

/** Each of these is one function of the contract; the words for people are all there is to add. */
function steering(name: string, takesReason: boolean, done: string, notDone: string): Run {
  return (terminal, { reason }, [subject = '']) =>
    connected(terminal, async db => {
      const call = takesReason ? `pawl.${name}($1, $2)` : `pawl.${name}($1)`
      const [row] = await db.query<{ done: boolean }>(`select ${call} as done`, takesReason ? [subject, reason ?? null] : [subject])
      answer(terminal, { [name]: subject, done: row?.done === true }, `${subject} ${row?.done === true ? done : notDone}`)
      return exitCodes.ok
    })
}

export const cancel = steering('cancel', true, 'is cancelled, at its next batch edge if it is running', 'had ended already')

export const retry = steering('retry', false, 'is enqueued again and goes on at its cursor', 'is neither failed nor cancelled: nothing to retry')

export const pause = steering('pause', true, 'is paused', 'was paused already')

export const resume = steering('resume', false, 'goes on', 'was not paused')

/** `pawl why`: the sentence of `pawl.why`. */
export const why: Run = (terminal, _values, [run]) =>
  connected(terminal, async db => {
    const [row] = await db.query<{ why: string }>('select pawl.why($1) as why', [run])
    answer(terminal, { run_id: run, why: row?.why }, row?.why ?? '')
    return exitCodes.ok
  })
