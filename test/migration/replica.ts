// One replica of a deployment: a process that migrates when told to. Says "ready" once it is loaded, then its outcome as JSON.
import { once } from 'node:events'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { openLog } from '../../src/log.ts'
import { migrateUp, migrationsDir } from '../../src/migrate.ts'

const config = readConfig()
console.log('ready')
await once(process.stdin, 'data')
process.stdin.unref()
try {
  const moved = await migrateUp({ config, log: openLog({ level: 'silent' }), clock: systemClock, dir: migrationsDir(config) })
  console.log(JSON.stringify({ applied: moved.map(move => move.tag) }))
} catch (error) {
  console.log(JSON.stringify({ error: String(error) }))
}
