import { createHash } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { readConfig } from '../../src/config.ts'
import { openStore } from '../../src/store.ts'

// Run as a process of its own, to be killed: `node store-writer.ts <place> <prefix of keys>` writes file after file without end, in pieces of
// odd sizes, synced now and then, every other one continued under a second key; `node store-writer.ts <place> <key> <megabytes>`
// writes one file of that size and prints how much memory that took. PAWL_TEST_UID: as that user, once everything is loaded.

/** What a file of this key must contain: a test computes it anew. A continued one has the content of the first. */
export function contentOf(key: string): Buffer {
  const line = createHash('sha256').update(key.replace(CONTINUED, '')).digest()
  return Buffer.concat(Array.from({ length: 20_000 + (line[0] ?? 0) * 100 }, () => line))
}

const CONTINUED = '_continued'
const MEGABYTE = 1024 * 1024

async function writeForever(place: string, prefix: string): Promise<never> {
  const store = openStore(place, { config: readConfig() })
  for (let number = 0; ; number += 1) {
    const first = `${prefix}-${String(number).padStart(16, '0')}.csv`
    const second = first.replace('.csv', `${CONTINUED}.csv`)
    const content = contentOf(first)
    let key = first
    let draft = await store.create(key, { contentType: 'text/csv' })
    for (let at = 0, step = 0; at < content.length; step += 1) {
      const piece = content.subarray(at, at + 777 * (1 + (step % 400)))
      await draft.write(piece)
      at += piece.length
      if (step % 10 === 0) await draft.sync()
      if (step === 50 && number % 2 === 1) {
        const bytes = draft.bytes()
        await draft.sync()
        await draft.close()
        draft = await store.create(second, { contentType: 'text/csv', continues: { key, bytes } })
        await store.remove(first)
        key = second
      }
    }
    await draft.publish()
    process.stdout.write(`${key}\n`)
  }
}

/** Growth over what the first small file took: loading the SDK is no part of it. */
async function weigh(place: string, key: string, megabytes: number): Promise<void> {
  const store = openStore(place, { config: readConfig() })
  const row = Buffer.alloc(MEGABYTE / 10)
  const write = async (name: string, count: number) => {
    const draft = await store.create(name, { contentType: 'text/csv' })
    for (let written = 0; written < count * 10; written += 1) {
      await draft.write(row.fill(written))
      process.stdout.write('.')
      peak = Math.max(peak, process.memoryUsage.rss())
    }
    return draft.publish()
  }
  let peak = 0
  await write(`warm-${key}`, 1)
  const before = process.memoryUsage.rss()
  peak = 0
  const { bytes } = await write(key, megabytes)
  process.stdout.write(`\n${JSON.stringify({ bytes, growth: (peak - before) / MEGABYTE })}\n`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const uid = Number(process.env.PAWL_TEST_UID ?? 0)
  if (uid !== 0) {
    process.setgid?.(uid)
    process.setuid?.(uid)
  }
  const [place = '', key = '', megabytes] = process.argv.slice(2)
  if (megabytes === undefined) await writeForever(place, key)
  else await weigh(place, key, Number(megabytes))
}
