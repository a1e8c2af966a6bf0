/** How a column is set and typed: what its PostgreSQL type comes down to for a reader. */
export type ColumnKind = 'text' | 'number' | 'boolean' | 'date' | 'timestamp' | 'json'

/** A column of a block: its name in data formats, its label where people read it. */
export type Column = { name: string; label: string; kind: ColumnKind }

/** One value a column, as PostgreSQL writes it; null for NULL. */
export type Row = readonly (string | null)[]

/** What of a block's columns is drawn: `x` and `series` are places in its columns. */
export type Chart = { kind: 'bar' | 'line' | 'area' | 'pie'; x: number; series: readonly number[]; stacked: boolean }

/** A part of a document. `metric` has one row, each column of which is a figure of its own. */
export type Block = { title: string | null } & (
  | { kind: 'text'; text: string }
  | { kind: 'metric' | 'table'; columns: readonly Column[] }
  | { kind: 'chart'; columns: readonly Column[]; chart: Chart }
)

export type DataBlock = Exclude<Block, { kind: 'text' }>

/** What a document says of itself. `generatedAt` is ISO 8601, UTC; parameters are those it was made with, in order. */
export type Head = {
  title: string
  description: string | null
  organization: string
  generatedAt: string
  parameters: readonly { label: string; value: string }[]
  blocks: readonly Block[]
}

/** Where bytes go; resolves when more may come. */
export type Sink = (bytes: Uint8Array | string) => Promise<void>

/**
 * Writes a document block by block: `begin`, then its data, then `end`; text blocks have no data. `finish` resolves when the last byte
 * is in the sink. Memory stays flat however many rows a table has; only a chart's rows, few by its limit, are held.
 */
export type Writer = {
  begin(block: Block): Promise<void>
  /** Rows of the block that has begun. */
  rows(rows: readonly Row[]): Promise<void>
  end(): Promise<void>
  finish(): Promise<void>
}

/** A format that a report can have. */
export type Format = {
  extension: string
  contentType: string
  /**
   * How the server hands over the rows. `csv`: as they go into the file, so that `data` passes them through, with an
   * apostrophe before each text that a spreadsheet would take for a formula. `text`: PostgreSQL's own
   * COPY text, which is taken apart into rows.
   */
  copy: 'csv' | 'text'
  /**
   * Whether a writer can go on in the middle of a block: what it wrote before is in the file already. Formats whose bytes depend on all
   * that came before (a zip's compression, a PDF's table of contents) can't.
   */
  resumable: boolean
  /** `resumed`: the place of the block that has begun already, and how many of its rows are in the file. */
  open(head: Head, sink: Sink, resumed?: { block: number; rows: number }): Promise<Writer & { data?(bytes: Uint8Array): Promise<void> }>
}
