import { startEmbedded } from '../../src/embedded.ts'
import { openLog } from '../../src/log.ts'

// A process of its own that uses the embedded server of a directory, or an ephemeral one, until its standard input ends or it is killed.
const [directory = ''] = process.argv.slice(2)
const server = await startEmbedded({ log: openLog({ level: 'silent' }), ...(directory === '' ? { ephemeral: true } : { dataDir: directory }) })
process.stdout.write(`${JSON.stringify({ url: server.url, dataDir: server.dataDir, adopted: server.adopted })}\n`)
process.stdin.resume().on('end', () => void server.stop())
