import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { openLog } from '../../src/log.ts'
import { openStore } from '../../src/store.ts'
import { findBackup } from '../../workers/maintenance/backups/catalog.ts'
import { verifyBackup } from '../../workers/maintenance/backups/verify.ts'

// A process that verifies a backup, says so in the middle of it, and goes no further, until it is killed.
const [name = ''] = process.argv.slice(2)
const config = readConfig()
const store = openStore(config.backup.place ?? '', { config })
const told = ({ step }: { step: string }) => {
  if (step !== 'compare') return
  process.stdout.write('comparing\n')
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
}
const context = { config, log: openLog({ level: 'silent' }), clock: systemClock, signal: new AbortController().signal, told }
await verifyBackup(context, store, await findBackup(store, name), [])
