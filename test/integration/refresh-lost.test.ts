import { expect, test } from 'vitest'
import { fromQuery, openRefreshStage, registerTable } from '../support/refresh.ts'

/** Lets the staged rows go, as a crash of the server does with what is unlogged, at the last look an operator's wish gets before the publishing. */
async function loseRows(query: (text: string) => Promise<unknown>, times: number): Promise<void> {
  await query(`
    create sequence public.looks;
    create function public.lose() returns text language plpgsql as $$
    declare
      staging regclass := (select min(c.oid)::regclass from pg_class c where c.relnamespace = 'pawl_stage'::regnamespace and c.relkind = 'r');
    begin
      -- The first look of each reading is that of its only batch, in whose transaction the rows are.
      if nextval('public.looks') % 2 = 0 and currval('public.looks') <= ${2 * times} then execute 'truncate ' || staging; end if;
      return null;
    end $$;
    create or replace function pawl.stop_reason(p_run_id text) returns text language sql volatile as $$ select public.lose() $$`)
}

test('rows that a crash of the server takes right before their publishing are read again, which is no failure of the refresh', async () => {
  const stage = await openRefreshStage()
  try {
    await registerTable(
      stage.query,
      'lost',
      'id integer primary key, name text',
      fromQuery(`select i as id, 'row ' || i as name from generate_series(1, 500) i`),
    )
    await loseRows(stage.query, 2)
    const { lost } = await stage.refresh('lost')
    expect(lost).toMatchObject({ state: 'completed', inserted: 500 })
    expect(await stage.query(`select count(*) as rows from sqp.lost`)).toEqual([{ rows: 500 }])
    const [run] = await stage.query(`select c.failures, c.done, s.extraction from pawl.checkpoints c join pawl.refresh_steps s using (run_id)`)
    expect(run).toEqual({ failures: 0, done: 500, extraction: 3 })
  } finally {
    await stage.end()
  }
})

test('rows that are lost again and again make it fail, in words that say so', async () => {
  const stage = await openRefreshStage()
  try {
    await registerTable(
      stage.query,
      'lost',
      'id integer primary key, name text',
      fromQuery(`select i as id, 'row ' || i as name from generate_series(1, 500) i`),
    )
    await loseRows(stage.query, 1000)
    await stage.refresh('lost')
    const [run] = await stage.query('select failures, error from pawl.checkpoints')
    expect(run).toMatchObject({ failures: expect.any(Number), error: expect.stringContaining('the staged rows of sqp.lost were lost') })
  } finally {
    await stage.end()
  }
})
