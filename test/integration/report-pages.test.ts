import { createHash } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addReport, fileOf, openReportStage, type ReportStage } from '../support/reports.ts'

let stage: ReportStage

beforeAll(async () => {
  stage = await openReportStage()
})
afterAll(() => stage.end())

const KEYED_ROWS = 120_000
test.each([
  ['a table', 'keyed', {}],
  ['a view, by the key that the template names', 'keyed_view', { key: ['owner', 'name', 'at'] }],
])('%s with a key of uuid, collated text and timestamptz is read page by page, and each row once', async (_, source, more) => {
  await stage.query(`
    create table if not exists public.keyed (owner uuid, name text collate "und-x-icu", at timestamptz, n integer, primary key (owner, name, at));
    create or replace view public.keyed_view as select * from public.keyed;
    grant select on public.keyed, public.keyed_view to pawl_report`)
  // Few owners and names: pages end within one of each, and the collation's order is not that of the bytes.
  await stage.query(
    `insert into public.keyed
     select md5((i % 7)::text)::uuid, (array['a', 'B', 'ä', 'Z', 'é', 'z', 'A'])[1 + i / 7 % 7], timestamptz '2026-03-29 00:30:00.000001+00' + i * interval '0.000007 seconds', i
     from generate_series(1, $1::integer) i on conflict do nothing`,
    [KEYED_ROWS],
  )
  const report = await addReport(stage.query, stage.people, {
    structure: { source, columns: ['owner', 'name', 'n'], ...more },
    configuration: { timezone: 'Europe/Berlin' },
  })
  const execution = await stage.run(report)
  expect(execution).toMatchObject({ status: 'completed', metadata: { rows: KEYED_ROWS } })
  const file = (await fileOf(execution)).toString()
  const [hand] = await stage.query<{ md5: string }>(
    `select md5(string_agg(concat_ws(',', owner, name, n) || E'\\n', '' order by owner, name, at)) from public.keyed`,
  )
  expect(
    createHash('md5')
      .update(file.slice(file.indexOf('\n') + 1))
      .digest('hex'),
  ).toBe(hand?.md5)
  const [lane] = await stage.query<{ cursor: { place: { rows: number; after: string[] } } }>('select cursor from pawl.lanes where run_id = $1', [execution.id])
  expect(lane?.cursor.place).toMatchObject({
    rows: 100_000,
    after: [expect.any(String), expect.any(String), expect.stringMatching(/^2026-03-29 01:30:00\.\d+\+01$/)],
  })
})
