import { sql } from 'drizzle-orm'
import type { Database } from '../../src/database.ts'
import { categories, users } from '../../src/schema/overrides.ts'

const names = ['Newsletter', 'Security alerts', 'Billing notices', 'Product updates', 'On-call pages'] as const
/** How the sample's recipients spread over its categories; 55,600 in all, the same every time. */
const sizes = [30_000, 12_000, 8_000, 5_000, 600] as const
const people = ['ada.lovelace', 'grace.hopper', 'edsger.dijkstra'] as const

/**
 * Loads document 000's host tables with people, categories and recipients, most of them AD-synced and active, once:
 * a database that has categories already is left as it is. True when it loaded them.
 */
export async function loadOverrideSample(db: Database): Promise<boolean> {
  const orm = await db.orm()
  return orm.transaction(async tx => {
    // Two `npm start` at once on one database: the second waits here, and then finds the sample.
    await tx.execute(sql`select pg_advisory_xact_lock(hashtext('pawl.sample'))`)
    if ((await tx.select({ id: categories.id }).from(categories).limit(1)).length > 0) return false
    await tx
      .insert(users)
      .values(people.map(username => ({ username })))
      .onConflictDoNothing()
    const created = await tx
      .insert(categories)
      .values(
        names.map((name, place) => ({
          name,
          settings: { channel: place === 4 ? 'phone' : 'email', frequency: 'daily', quiet_hours: { from: '22:00', to: '07:00' } },
        })),
      )
      .returning({ id: categories.id })
    for (const [place, { id }] of created.entries()) {
      await tx.execute(sql`
        insert into public.recipients (category_id, name, is_ad_synced, is_active)
        select ${id}::bigint,
          (array['Alex','Bao','Chiara','Dmitri','Elif','Farah','Goran','Hana','Ines','Jamal','Kofi','Lena','Mateo','Nia','Olu','Priya'])[1 + i % 16]
            || ' ' || (array['Andersen','Bauer','Costa','Dubois','Eriksen','Fischer','García','Haddad','Ivanov','Jensen','Kim','Larsen','Moreau'])[1 + i / 16 % 13],
          i % 20 <> 0, i % 33 <> 0
        from generate_series(1, ${sizes[place] ?? 0}::integer) i`)
      await tx.execute(sql`
        insert into public.category_recipient_settings (category_id, recipient_id, settings)
        select r.category_id, r.id, jsonb_build_object('channel', 'email', 'frequency', case when r.id % 3 = 0 then 'weekly' else 'daily' end)
        from public.recipients r
        where r.category_id = ${id}::bigint and r.id % 4 <> 0`)
    }
    return true
  })
}

/** Requests the sample's operations, one round for each category; returns their ids. */
export async function requestSampleOverrides(db: Database): Promise<string[]> {
  const rows = await db.query<{ id: string }>(
    `select pawl.request_override(c.id, (select min(u.id) from public.users u),
       jsonb_build_object('channel', 'email', 'frequency', 'weekly', 'requested', to_char(now(), 'YYYY-MM-DD HH24:MI:SS')), 500) as id
     from (select id from public.categories order by id limit $1) c`,
    [names.length],
  )
  return rows.map(row => row.id)
}
