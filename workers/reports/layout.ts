import type { Reader } from '../../src/database.ts'
import { PawlError } from '../../src/errors.ts'
import type { Place } from './compose.ts'
import type { Block, Column, Head } from './document.ts'
import { bindSettings, findRelation, judged, kindOf, restrict } from './relation.ts'
import { type Statement, statementOf, wholeText } from './statement.ts'
import { type DataPart, type Limits, readTemplate, resultName, type TemplateRow, type TextPart } from './template.ts'

/** A text with its parameters: it is held in memory, and a long value may be named in it thousands of times. */
const TEXT_MAX = 1_000_000

/**
 * Where an execution stands: the file the last attempt wrote into, how much of it is whole, behind which row that ends, and how many rows
 * of all blocks it holds. What was counted behind that place is read, and counted, again.
 */
export type Cursor = { file?: string; bytes?: number; place?: Place; total?: number; part?: number; primary?: boolean }

/** What the database says of an execution; see `pawl.start_report`. */
export type Start = {
  outcome: 'started' | 'gone'
  /** Where this attempt writes. */
  key: string
  report: { id: string; name: string; description: string | null; configuration: unknown }
  template: TemplateRow & { parameters: Record<string, { label?: unknown }> }
  organization: { id: string; name: string }
  user: string
  format: string
  /** Text of their declared types, by name. */
  parameters: Record<string, string>
  opened_at: string
  cursor: Cursor
  /** Keys of files that earlier attempts may have left. */
  earlier: string[]
}

/** A document about to be written: its blocks, and the statement of each block that has one. */
export type Made = { head: Head; statements: Map<number, Statement>; limits: Limits }

/**
 * Makes a document of a template and parameters: checks the template, takes the reader's rights away, looks up what the parts read, and
 * asks the server what their columns are. No row is read.
 */
export async function makeHead(reader: Reader, start: Start): Promise<Made> {
  const { parts, limits, timezone } = readTemplate(start.template, start.report.configuration)
  await restrict(reader, { organization: start.organization.id, user: start.user }, limits, timezone)
  const statements = new Map<number, Statement>()
  const blocks: Block[] = []
  for (const [place, part] of parts.entries()) {
    if (part.type === 'text') {
      blocks.push(textBlock(part, start.parameters))
      continue
    }
    const statement = statementOf(part, await findRelation(reader, part.source), start.parameters, start.template.parameters)
    statements.set(place, statement)
    blocks.push(dataBlock(part, await columnsOf(reader, statement, limits), parts.length === 1 ? start.report.name : null))
  }
  const head: Head = {
    title: start.report.name,
    description: start.report.description,
    organization: start.organization.name,
    generatedAt: new Date(start.opened_at).toISOString(),
    parameters: Object.entries(start.parameters).map(([name, value]) => ({ label: labelOf(start.template.parameters[name], name), value })),
    blocks,
  }
  return { head, statements, limits }
}

function labelOf(declared: { label?: unknown } | undefined, name: string): string {
  return typeof declared?.label === 'string' ? declared.label : name
}

async function columnsOf(reader: Reader, statement: Statement, limits: Limits): Promise<Column[]> {
  await bindSettings(reader, statement.settings)
  const described = await reader.describe(wholeText(statement, 0)).catch((error: unknown) => {
    throw judged(error, statement.source, limits)
  })
  return statement.columns.map((column, place) => ({ ...column, kind: kindOf(described[place]?.type ?? 0) }))
}

function textBlock(part: TextPart, parameters: Readonly<Record<string, string>>): Block {
  let length = part.text.length
  // No blanks matched around the name: with them, 20,000 blanks behind two braces took minutes.
  const text = part.text.replaceAll(/\{\{([^{}]{1,200})\}\}/g, (whole, inner: string) => {
    const name = inner.trim()
    if (!Object.hasOwn(parameters, name)) return whole
    const value = parameters[name] ?? ''
    length += value.length
    if (length > TEXT_MAX)
      throw new PawlError('report.too_large', `a text has more than ${TEXT_MAX} characters with parameter "${name}" in it`, { hint: 'shorten the value' })
    return value
  })
  return { kind: 'text', title: part.title ?? null, text }
}

function dataBlock(part: DataPart, columns: Column[], fallbackTitle: string | null): Block {
  const title = part.title ?? fallbackTitle
  if (part.chart === undefined) return { kind: part.type === 'metric' ? 'metric' : 'table', title, columns }
  const shown = part.columns.filter(column => !column.hidden).map(resultName)
  const { kind, x, y, stacked } = part.chart
  return { kind: 'chart', title, columns, chart: { kind, x: shown.indexOf(x), series: y.map(name => shown.indexOf(name)), stacked } }
}
