import { afterEach, expect, test, vi } from 'vitest'
import type { Terminal } from '../../bin/terminal.ts'
import { type Frame, show } from '../../bin/watch.ts'

afterEach(() => vi.restoreAllMocks())

/** What is printed, frame by frame. */
function stand(changes: Partial<Terminal> = {}) {
  const printed: string[] = []
  const terminal = { json: false, live: false, color: false, out: (line: string) => void printed.push(line), say: () => {}, ...changes } as Terminal
  return { terminal, printed }
}

/** Frames one after another; the last one is over. An error among them is thrown. */
function looks(...frames: (string | Error)[]): () => Promise<Frame> {
  let place = 0
  return async () => {
    const frame = frames[place++] ?? ''
    if (frame instanceof Error) throw frame
    return { machine: { frame }, people: frame, isOver: place === frames.length }
  }
}

test('without --watch there is one look', async () => {
  const { terminal, printed } = stand()
  await show(terminal, {}, looks('one', 'two'))
  expect(printed).toEqual(['one'])
})

test('into a pipe frames follow each other, with an empty line between them for people and one a line for machines', async () => {
  const people = stand()
  await show(people.terminal, { watch: '0.001' }, looks('one', 'two', 'three'))
  expect(people.printed).toEqual(['one', '\ntwo', '\nthree'])
  const machine = stand({ json: true })
  await show(machine.terminal, { watch: '0.001' }, looks('one', 'two'))
  expect(machine.printed).toEqual(['{"frame":"one"}', '{"frame":"two"}'])
})

test('on a terminal each frame is drawn over the last, and never taller than the terminal', async () => {
  const { terminal, printed } = stand({ live: true })
  const rows = process.stdout.rows
  process.stdout.rows = 5
  try {
    await show(terminal, { watch: '0.001' }, looks('one', 'a\nb\nc\nd\ne\nf'))
  } finally {
    process.stdout.rows = rows
  }
  expect(printed).toEqual(['\x1b[2J\x1b[Hone\x1b[K\x1b[J', '\x1b[Ha\x1b[K\nb\x1b[K\nc\x1b[K\n… 3 more lines\x1b[K\x1b[J'])
})

test('a database that is away for a while is told and asked again; what does not pass by itself ends it', async () => {
  const away = Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:5432'), { code: 'ECONNREFUSED' })
  const { terminal, printed } = stand({ json: true })
  await show(terminal, { watch: '0.001' }, looks('one', away, 'two'))
  expect(printed.map(line => JSON.parse(line) as unknown)).toEqual([
    { frame: 'one' },
    { error: { code: 'ECONNREFUSED', message: away.message, hint: expect.stringContaining('PostgreSQL') } },
    { frame: 'two' },
  ])
  const denied = Object.assign(new Error('permission denied'), { code: '42501' })
  await expect(show(stand().terminal, { watch: '0.001' }, looks('one', denied, 'two'))).rejects.toBe(denied)
  await expect(show(stand().terminal, { watch: '0.001' }, looks(away, 'one')), 'the first look must succeed').rejects.toBe(away)
})
