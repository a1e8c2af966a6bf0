import { bigint, index, text, timestamp, uuid } from 'drizzle-orm/pg-core'
import { pawl } from './pawl.ts'
import { reports } from './reporting.ts'

/** What an attempt at a report may have left in the store. Functions stand in `drizzle/0012…`, the document's tables in reporting.ts. */
export const reportFiles = pawl.table(
  'report_files',
  {
    key: text().primaryKey(),
    runId: text('run_id').notNull(),
    epoch: bigint({ mode: 'number' }).notNull(),
    createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
  },
  table => [index('report_files_run').on(table.runId)],
)

/** Where the rhythm of a repeated report began; see `pawl.next_report_time`. */
export const reportRhythms = pawl.table('report_rhythms', {
  reportId: uuid('report_id')
    .primaryKey()
    .references(() => reports.id, { onDelete: 'cascade' }),
  every: text().notNull(),
  firstAt: timestamp('first_at', { withTimezone: true }).notNull(),
  nextAt: timestamp('next_at', { withTimezone: true }).notNull(),
})
