import { answer, type Command, exitCodes, wordAt } from '../run.ts'
import { connected } from './connect.ts'

/** Each of these is one function of the contract; the words for people are all there is to add. */
function steering(options: { name: string; subject: 'RUN' | 'QUEUE'; reason?: boolean; summary: string; done: string; notDone: string }): Command {
  const usage = `${options.name} ${options.subject}${options.reason === true ? ' [--reason TEXT]' : ''}`
  return {
    usage,
    summary: options.summary,
    example: `pawl ${options.name} ${options.subject === 'RUN' ? 'ovr_4f1c…' : 'overrides.apply'}${options.reason === true ? ' --reason "wrong settings"' : ''}`,
    quiet: true,
    ...(options.reason === true ? { options: { reason: { type: 'string' } } } : {}),
    run: (terminal, values, words) => {
      const subject = wordAt(words, 0, `the ${options.subject.toLowerCase()}`, usage)
      const call = options.reason === true ? `pawl.${options.name}($1, $2)` : `pawl.${options.name}($1)`
      return connected(terminal, async db => {
        const [row] = await db.query<{ done: boolean }>(`select ${call} as done`, options.reason === true ? [subject, values.reason ?? null] : [subject])
        answer(terminal, { [options.name]: subject, done: row?.done === true }, `${subject} ${row?.done === true ? options.done : options.notDone}`)
        return exitCodes.ok
      })
    },
  }
}

export const cancel = steering({
  name: 'cancel',
  subject: 'RUN',
  reason: true,
  summary: 'cancel a run; what it applied stays',
  done: 'is cancelled, at its next batch edge if it is running',
  notDone: 'had ended already',
})

export const retry = steering({
  name: 'retry',
  subject: 'RUN',
  summary: 'run a failed or cancelled run again from its cursor',
  done: 'is enqueued again and goes on at its cursor',
  notDone: 'is neither failed nor cancelled: nothing to retry',
})

export const pause = steering({
  name: 'pause',
  subject: 'QUEUE',
  reason: true,
  summary: 'stop work on a queue; running runs keep their place',
  done: 'is paused',
  notDone: 'was paused already',
})

export const resume = steering({ name: 'resume', subject: 'QUEUE', summary: 'let a paused queue go on', done: 'goes on', notDone: 'was not paused' })

export const why: Command = {
  usage: 'why RUN',
  summary: 'why a run is where it is, and what to do',
  example: 'pawl why ovr_4f1c…',
  quiet: true,
  run: (terminal, _values, words) =>
    connected(terminal, async db => {
      const run = wordAt(words, 0, 'the run', 'why RUN')
      const [row] = await db.query<{ why: string }>('select pawl.why($1) as why', [run])
      answer(terminal, { run_id: run, why: row?.why }, row?.why ?? '')
      return exitCodes.ok
    }),
}
