import type { Database } from '../../src/database.ts'

const names = ['Spring sale', 'Summer games', 'Harvest quiz', 'Winter raffle'] as const

/** One hour is 3.6 million milliseconds; a sample's whole life takes seconds. */
const SECOND_HOURS = 1 / 3600

/** Creates the sample's campaigns, whose whole lives take about eight seconds; their ids. */
export async function startSampleCampaigns(db: Database): Promise<string[]> {
  const rows = await db.query<{ id: string }>(
    `with made as (
       select place, name, pawl.create_campaign(1, now() + place * interval '300 milliseconds', false, true,
         jsonb_build_object('name', name, 'reward_reminder_hours', $2::numeric, 'expire_hours', 2 * $2::numeric)) as id
       from unnest($1::text[]) with ordinality sample (name, place)
     )
     select id, pawl.schedule_timer(id, 'CLOSE_CAMPAIGN', now() + interval '2 seconds' + place * interval '300 milliseconds') from made order by place`,
    [names, 1.5 * SECOND_HOURS],
  )
  return rows.map(row => row.id)
}

export type SampleCampaign = { name: string; path: string; timers: string; over: boolean }

/** Each campaign's states so far, and each timer that fired with how late it was. */
export async function sampleCampaigns(db: Database, ids: readonly string[]): Promise<SampleCampaign[]> {
  return db.query<SampleCampaign>(
    `select c.metadata ->> 'name' as name, c.status = 'EXPIRED' as over,
       (select string_agg(l.to_state, ' → ' order by l.created_at, array_position(array['CREATED', 'RUNNING', 'CLOSED', 'REWARD_CLAIM', 'EXPIRED'], l.to_state::text))
        from public.campaign_state_log l where l.campaign_id = c.id) as path,
       coalesce((select string_agg(format('%s %s ms', lower(split_part(t.timer_type, '_', 1)), t.late_ms), ', ' order by t.scheduled_at)
                 from pawl.timers t where t.campaign_id = c.id and t.late_ms is not null), '') as timers
     from public.campaigns c where c.id = any ($1) order by array_position($1, c.id)`,
    [ids],
  )
}
