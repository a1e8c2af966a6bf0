import { type Mutant, within } from './mutant.ts'

const REPORTS = 'drizzle/0012_report_runs.sql'

const reports: readonly Mutant[] = [
  {
    name: 'reports read with the worker’s rights',
    why: 'a template may read the tables of every organization, passwords too',
    changes: within('workers/reports/relation.ts', ["await reader.query('set local role pawl_report')", "await reader.query('select 1')"]),
    tests: ['test/integration/report-role.test.ts'],
    quick: true,
  },
  {
    name: 'a draft has its final name',
    why: 'who looks into the folder finds half a report',
    changes: within('src/store/directory.ts', ['draft: join(directory, `.${checkedKey(key)}.draft`),', 'draft: join(directory, checkedKey(key)),']),
    tests: ['test/integration/store-directory.test.ts'],
  },
  {
    name: 'a report is finished without the fence',
    why: 'a zombie’s file, which is removed, becomes the execution’s',
    changes: within(
      REPORTS,
      ['  perform pawl.hold_run(p_run_id, p_epoch);\n  update reporting.report_executions e', '  update reporting.report_executions e'],
      [
        "  perform pawl.finish(p_run_id, p_epoch, 'completed');\n  perform pawl.audit_execution",
        "  perform pawl.finish(p_run_id, null, 'completed');\n  perform pawl.audit_execution",
      ],
    ),
    tests: ['test/integration/report-fence.test.ts'],
  },
  {
    name: 'an adopted draft keeps its count',
    why: 'rows that are read again are counted again',
    changes: within(REPORTS, ["'part', 0), done = coalesce((cursor ->> 'total')::bigint, 0),", "'part', 0), done = done + 0,"]),
    tests: ['test/integration/report-fence.test.ts'],
  },
  {
    name: 'two files for one execution',
    why: 'asked again after a lost answer, the execution ends as taken over and its file is removed',
    changes: within(REPORTS, [
      "where e.id = p_run_id::uuid and e.metadata ->> 'key' = p_key) then\n    return;",
      "where e.id = p_run_id::uuid and e.metadata ->> 'key' = p_key and false) then\n    return;",
    ]),
    tests: ['test/integration/report-fence.test.ts'],
  },
  {
    name: 'a page takes the key it begins after',
    why: 'a row stands twice in a report, once at the end of a page and once at the beginning of the next',
    changes: within('workers/reports/statement.ts', [
      "const where = [...statement.where, ...(isFirst ? [] : [beyond(key, '>', 'after')]), ...(isLast",
      "const where = [...statement.where, ...(isFirst ? [] : [beyond(key, '>=', 'after')]), ...(isLast",
    ]),
    tests: ['test/integration/report-pages.test.ts'],
  },
]

const maintenance: readonly Mutant[] = [
  {
    name: 'an archive is not compared',
    why: 'a month is dropped whose file holds other rows',
    changes: within('workers/maintenance/archives/verify.ts', [
      "if (taken !== content.rows || !sameContent(readBack, content) || hash.digest('hex') !== csvSha256) {",
      'if (taken !== content.rows) {',
    ]),
    tests: ['test/integration/archive-steering.test.ts'],
  },
  {
    name: 'a file that has gone is taken for there',
    why: 'a month is dropped that nobody has any more',
    changes: within('workers/maintenance/archives/attempt.ts', [
      "  if (hash.digest('hex') === sha256) return true\n",
      '  if (sha256 !== undefined) return true\n',
    ]),
    tests: ['test/integration/archive-steering.test.ts'],
  },
  {
    name: 'late rows are dropped with their month',
    why: 'what was written after the file was made is nowhere',
    changes: within('drizzle/0016_retention.sql', [
      'if counted <> archive.rows or (select a.late_writes from pawl.archives a where a.id = archive.id) > 0 then',
      'if false then',
    ]),
    tests: ['test/integration/archive.test.ts'],
  },
  {
    name: 'retention waits for locks',
    why: 'one long transaction of the host keeps the nightly sweep, and whoever comes behind it, waiting',
    changes: within('drizzle/0016_retention.sql', ['limit $2 for update skip locked', 'limit $2 for update']),
    tests: ['test/integration/retention.test.ts'],
  },
  {
    name: 'one backup fewer of each generation',
    why: 'retention deletes a backup that it has promised to keep',
    changes: within('workers/maintenance/backups/retention.ts', ['if (seen.size >= keep[generation]) break', 'if (seen.size >= keep[generation] - 1) break']),
    tests: ['test/unit/backup-retention.test.ts'],
    quick: true,
  },
  {
    name: 'unverified backups stand for a day',
    why: 'the one that was shown to be restorable is deleted for one that was not',
    changes: within('workers/maintenance/backups/retention.ts', [
      "verification !== undefined && manifest.scope === 'full' && manifest.kind",
      "manifest.scope === 'full' && (verification !== undefined || manifest.kind !== undefined) && manifest.kind",
    ]),
    tests: ['test/unit/backup-retention.test.ts'],
  },
  {
    name: 'a backfill leaves out the last row of a batch',
    why: 'it says completed, and each batch has left a row as it was',
    changes: within('drizzle/0017_backfills.sql', ["range := format('t.%1$I <= $2::%2$s'", "range := format('t.%1$I < $2::%2$s'"]),
    tests: ['test/integration/backfill.test.ts'],
  },
  {
    name: 'a backfill forgets its condition',
    why: 'rows that somebody has set since are overwritten',
    changes: within('drizzle/0017_backfills.sql', [
      "where %s and (\\n%s\\n)', backfill.relation, backfill.assignments, range, backfill.condition)",
      "where %s', backfill.relation, backfill.assignments, range)",
    ]),
    tests: ['test/integration/backfill.test.ts'],
  },
]

const migrations: readonly Mutant[] = [
  {
    name: 'migrators do not wait for each other',
    why: 'five replicas that start together apply the same file',
    changes: within('src/migrate/exclusive.ts', ['if (answer?.got) return\n    const waitedMs', 'if (answer !== undefined) return\n    const waitedMs']),
    tests: ['test/migration/replicas.test.ts'],
  },
  {
    name: 'an edited migration is not noticed',
    why: 'two databases with the same ledger are not the same',
    changes: within('src/migrate/ledger.ts', [
      'if (entry.up !== undefined && entry.up.checksum !== row.checksum) {',
      'if (entry.up !== undefined && row.checksum === null) {',
    ]),
    tests: ['test/migration/refusals.test.ts'],
    quick: true,
  },
  {
    name: 'a worker accepts an older schema',
    why: 'it fails in the middle of a run, at the first column that is not there',
    changes: within('src/migrate.ts', [
      'const lacking = journal.filter(entry => !applied.has(entry.tag))',
      'const lacking = journal.filter(entry => applied.size === 0 && !applied.has(entry.tag))',
    ]),
    tests: ['test/migration/refusals.test.ts'],
  },
  {
    name: 'a worker refuses a newer schema',
    why: 'from the migration on, every old worker that is started anew stays away, and a rollback is none',
    changes: within('src/migrate.ts', ['  if (lacking.length === 0) return\n', '  if (lacking.length === 0 && applied.size === journal.length) return\n']),
    tests: ['test/migration/refusals.test.ts'],
  },
  {
    name: 'a failed file stays half applied',
    why: 'the next try meets what the first one left',
    changes: within('src/migrate/apply.ts', [
      "  await query(`begin isolation level read committed read write; set local lock_timeout = '3s';\n",
      "  await query(`set lock_timeout = '3s';\n",
    ]),
    tests: ['test/migration/up.test.ts', 'test/migration/refusals.test.ts'],
  },
]

/** What is particular to reports, maintenance and migrations. */
export const keeping: readonly Mutant[] = [...reports, ...maintenance, ...migrations]
