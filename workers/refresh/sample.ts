import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { literal } from '../../src/names.ts'
import { type Engine, openEngine } from './sources/duckdb/engine.ts'

const FILES = ['asin_performance_data.parquet', 'search_query_performance.parquet', 'daily_sqp_data.csv'] as const
const MARK = 'sample-1.json'

/** 52 weeks × 2 marketplaces × 100 ASINs × 50 searches, each ASIN found by the searches of its own shelf. */
const asins = `
  select report_date, marketplace, asin, search_query, volume as search_query_volume, impressions, clicks, cart_adds, purchases,
    least(1, impressions / greatest(volume, 1) / 4)::decimal(7,4) as impression_share,
    least(1, clicks / greatest(volume * 0.35, 1))::decimal(7,4) as click_share,
    least(1, purchases / greatest(volume * 0.05, 1))::decimal(7,4) as purchase_share,
    (5 + noise(a, 7) * 120 + week * 0.01)::decimal(12,2) as median_price,
    case m when 0 then 'USD' else 'EUR' end as currency
  from (
    select *, (clicks * (0.1 + noise(i, 5) * 0.3))::bigint as cart_adds, (clicks * (0.01 + noise(i, 6) * 0.09))::bigint as purchases
    from (
      select *, (impressions * (0.01 + noise(i, 4) * 0.2))::bigint as clicks
      from (
        select *, (volume * noise(i, 3) * 0.9)::bigint as impressions
        from (
          select i, week, m, a, day(week) as report_date, market(m) as marketplace, asin(a) as asin, search(a % 20 * 50 + q) as search_query,
            volume(a % 20 * 50 + q, week) as volume
          from (select i, i // 10000 as week, i % 2 as m, i // 2 % 100 as a, i // 200 % 50 as q from range(520000) rows(i))))))`

/** 60 weeks of history × 2 marketplaces × 500 searches: the whole market. */
const searches = `
  select report_date, marketplace, search_query, rank as search_query_score, volume as search_query_volume,
    impressions as total_impressions, clicks as total_clicks, (clicks * 0.22)::bigint as total_cart_adds, (clicks * 0.08)::bigint as total_purchases,
    (clicks / greatest(impressions, 1))::decimal(7,4) as click_rate, ((clicks * 0.08)::bigint / greatest(clicks, 1))::decimal(7,4) as purchase_rate
  from (
    select *, (impressions * (0.01 + noise(i, 9) * 0.05))::bigint as clicks
    from (
      select i, day(i // 1000) as report_date, market(i % 2) as marketplace, search(i // 2 % 500) as search_query, (1 + i // 2 % 500)::integer as rank,
        volume(i // 2 % 500, i // 1000) as volume, volume(i // 2 % 500, i // 1000) * 20 as impressions
      from range(60000) rows(i)))`

/** 150 days × 2 marketplaces × 100 ASINs. */
const days = `
  select day, marketplace, asin, impressions, clicks, (clicks * 0.2)::bigint as cart_adds, purchases,
    (purchases * (5 + noise(a, 7) * 120))::decimal(14,2) as revenue
  from (
    select *, (clicks * (0.02 + noise(i, 12) * 0.16))::bigint as purchases
    from (
      select *, (impressions * (0.01 + noise(i, 11) * 0.1))::bigint as clicks
      from (
        select i, i // 2 % 100 as a, date '2025-08-01' + (i // 200)::integer as day, market(i % 2) as marketplace, asin(i // 2 % 100) as asin,
          (200 + noise(i, 10) * 9000)::bigint as impressions
        from range(30000) rows(i))))`

const macros = [
  // The same numbers every time and everywhere: DuckDB's own hash may change with its version.
  'create macro noise(i, salt) as ((i * 7919 + salt * 104729 + 12345) * 48271 % 2147483647 * 69621 % 2147483647 % 10007) / 10007.0',
  `create macro day(week) as date '2025-01-05' + (week * 7)::integer`,
  `create macro market(m) as case m when 0 then 'ATVPDKIKX0DER' else 'A1PA6795UKMFR9' end`,
  `create macro asin(a) as 'B0' || lpad(upper(to_base((a * 60466177 + 1679616) % 2821109907456, 36)), 8, '0')`,
  `create macro search(q) as
    (['wireless','stainless','organic','portable','kids','large','adjustable','vintage','waterproof','usb-c'])[1 + q % 10]
    || ' ' || (['water bottle','desk lamp','yoga mat','phone case','coffee mug','backpack','headphones','garden hose','dog bed','keyboard'])[1 + q // 10 % 10]
    || case when q // 100 = 0 then '' else (['',' for men',' for women',' set of 2',' black',' gift',' cheap',' with lid',' 2025',' small'])[1 + q // 100 % 10] end`,
  'create macro volume(q, week) as (100 + noise(q, 1) * 40000 * (1 + 0.3 * sin(week / 8.0)) * (0.9 + noise(q * 61 + week, 2) * 0.2))::bigint',
]

/**
 * Writes the sample of Amazon's Search Query Performance data into `dir`, the same every time: two Parquet files of 520,000 and
 * 60,000 rows, and a CSV of 30,000. Files that are there already stay as they are, so that their next refresh finds nothing new.
 */
export async function writeSampleFiles(dir: string): Promise<void> {
  if (isWritten(dir)) return
  mkdirSync(dir, { recursive: true })
  const engine = await openEngine()
  try {
    for (const macro of macros) await engine.rows(macro)
    await put(engine, dir, FILES[0], asins, 'format parquet, compression snappy')
    await put(engine, dir, FILES[1], searches, 'format parquet, compression snappy')
    await put(engine, dir, FILES[2], days, 'format csv, header true')
  } finally {
    await engine.close()
  }
  writeFileSync(join(dir, MARK), JSON.stringify(Object.fromEntries(FILES.map(name => [name, statSync(join(dir, name)).size]))))
}

async function put(engine: Engine, dir: string, name: string, query: string, options: string): Promise<void> {
  const draft = join(dir, `${name}.${process.pid}.draft`)
  try {
    await engine.rows(`copy (${query}) to ${literal(draft)} (${options})`)
    renameSync(draft, join(dir, name))
  } finally {
    rmSync(draft, { force: true })
  }
}

/** All there, of the sizes they were written with: what is cut off, or was made by an older Pawl, is written anew. */
function isWritten(dir: string): boolean {
  try {
    const sizes = JSON.parse(readFileSync(join(dir, MARK), 'utf8')) as Record<string, number>
    return FILES.every(name => statSync(join(dir, name)).size === sizes[name])
  } catch {
    return false
  }
}
