import { expect, test } from 'vitest'
import { fromQuery, openRefreshStage, registerTable } from '../support/refresh.ts'

test('a value that becomes null, and a null that becomes a value, are each an update; a null that stays is none', async () => {
  const stage = await openRefreshStage()
  try {
    await stage.query(`
      create table public.feed (id integer primary key, name text, amount integer);
      insert into public.feed values (1, 'one', 1), (2, null, 2), (3, null, null), (4, 'four', null);
      grant select on public.feed to pawl_worker`)
    await registerTable(stage.query, 'nulls', 'id integer primary key, name text, amount integer', fromQuery('select * from public.feed'))
    expect((await stage.refresh('nulls')).nulls).toMatchObject({ state: 'completed', inserted: 4 })
    await stage.query(`update public.feed set name = case id when 1 then null when 2 then 'two' end where id < 3`)
    expect((await stage.refresh('nulls')).nulls).toMatchObject({ state: 'completed', inserted: 0, updated: 2, deleted: 0, unchanged: 2 })
    expect(await stage.query('select * from sqp.nulls order by id')).toEqual(await stage.query('select * from public.feed order by id'))
  } finally {
    await stage.end()
  }
})
