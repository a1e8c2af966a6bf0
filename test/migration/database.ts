import { connectDirect } from '../../src/database.ts'
import { readConfig } from '../../src/config.ts'
let n = 0
export async function createDatabase() {
  const admin = process.env.PAWL_TEST_DATABASE_URL ?? ''
  const config = readConfig({ DATABASE_URL: admin })
  const name = `t_${process.pid}_${++n}_${Date.now()}`
  const run = async (sql: string) => { const c = await connectDirect(config, 'x'); await c.query(sql); await c.close() }
  await run(`create database ${name}`)
  const url = new URL(admin); url.pathname = '/' + name
  return { url: url.href, drop: () => run(`drop database if exists ${name} with (force)`) }
}
