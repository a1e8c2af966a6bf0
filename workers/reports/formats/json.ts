import type { Block, Chart, Column, ColumnKind, DataBlock, Format, Head, Row } from '../document.ts'

/** What JSON takes for a number. PostgreSQL's digits are such, but for NaN and the infinities. */
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/

/** One JSON document, a row a line. Numbers keep every digit that PostgreSQL gave; `json` columns are embedded as they are. */
export const json: Format = {
  extension: 'json',
  contentType: 'application/json; charset=utf-8',
  copy: 'text',
  resumable: true,
  async open(head, sink, resumed) {
    let begun = resumed === undefined ? 0 : resumed.block + 1
    let written = resumed?.rows ?? 0
    let block = resumed === undefined ? undefined : head.blocks[resumed.block]
    let toText = rowWriter(columnsOf(block))
    if (resumed === undefined) await sink(openingOf(head))
    return {
      async begin(next) {
        block = next
        toText = rowWriter(columnsOf(next))
        await sink(`${begun === 0 ? '\n' : ',\n'}${beginningOf(next)}`)
        begun += 1
        written = 0
      },
      async rows(rows) {
        if (rows.length === 0) return
        await sink(`${written === 0 ? '\n' : ',\n'}${rows.map(toText).join(',\n')}`)
        written += rows.length
      },
      async end() {
        if (block?.kind !== 'text') await sink(written === 0 ? ']}' : '\n]}')
      },
      async finish() {
        await sink(begun === 0 ? ']}\n' : '\n]}\n')
      },
    }
  },
}

function openingOf(head: Head): string {
  const { title, description, organization, generatedAt: generated_at, parameters } = head
  const told = { title, description, organization, generated_at, parameters: parameters.map(({ label, value }) => ({ label, value })) }
  return `${JSON.stringify(told).slice(0, -1)},"blocks":[`
}

/** All of a text block; of others all that comes before their rows. */
function beginningOf(block: Block): string {
  const { title, kind } = block
  if (block.kind === 'text') return JSON.stringify({ title, kind, text: block.text })
  const columns = block.columns.map(({ name, label, kind: type }) => ({ name, label, kind: type }))
  const told = block.kind === 'chart' ? { title, kind, chart: chartOf(block.chart, block), columns } : { title, kind, columns }
  return `${JSON.stringify(told).slice(0, -1)},"rows":[`
}

function chartOf({ kind, x, series, stacked }: Chart, { columns }: DataBlock) {
  const nameOf = (place: number) => columns[place]?.name ?? null
  return { kind, x: nameOf(x), series: series.map(nameOf), stacked }
}

function columnsOf(block: Block | undefined): readonly Column[] {
  return block === undefined || block.kind === 'text' ? [] : block.columns
}

function rowWriter(columns: readonly Column[]): (row: Row) => string {
  const keys = columns.map(({ name }, index) => `${index === 0 ? '' : ','}${JSON.stringify(name)}:`)
  const writers = columns.map(({ kind }) => valueWriters[kind])
  return row => {
    let text = '{'
    for (let index = 0; index < row.length; index++) {
      const value = row[index]
      const write = writers[index] ?? JSON.stringify
      text += keys[index] + (value === null || value === undefined ? 'null' : write(value))
    }
    return `${text}}`
  }
}

const valueWriters: Readonly<Record<ColumnKind, (value: string) => string>> = {
  text: value => JSON.stringify(value),
  date: value => JSON.stringify(value),
  timestamp: value => JSON.stringify(value),
  number: value => (NUMBER.test(value) ? value : JSON.stringify(value)),
  boolean: value => (value === 't' || value === 'true' ? 'true' : 'false'),
  // A raw line break is white space between tokens here (in a string it is escaped), and a row is to be a line.
  json: value => value.replace(/[\r\n]+/g, ' '),
}
