import { connectDirect } from '../../../src/database.ts'
import { PawlError } from '../../../src/errors.ts'
import type { BackupContext } from './context.ts'
import type { Manifest } from './manifest.ts'
import { readObjects } from './objects.ts'
import type { Scratch } from './scratch.ts'
import { readSequences, readTables, settle } from './snapshot.ts'

const NAMED_MAX = 5

/** Throws `backup.different`, naming the first differences, unless what was restored is what the manifest says. */
export async function requireSame(context: BackupContext, manifest: Manifest, scratch: Scratch): Promise<void> {
  const found = await differences(context, manifest, scratch)
  if (found.length === 0) return
  const more = found.length > NAMED_MAX ? `; and ${found.length - NAMED_MAX} more` : ''
  throw new PawlError('backup.different', `${manifest.name} does not restore to what it was taken from: ${found.slice(0, NAMED_MAX).join('; ')}${more}`, {
    hint: 'do not rely on it: take another backup; if that one differs too, look at the first table named on source and copy',
  })
}

async function differences(context: BackupContext, manifest: Manifest, scratch: Scratch): Promise<string[]> {
  const connection = await connectDirect({ ...context.config, directUrl: scratch.url }, 'pawl scratch')
  const stop = () => connection.abort()
  scratch.signal.addEventListener('abort', stop, { once: true })
  try {
    scratch.signal.throwIfAborted()
    await settle(connection.query)
    const told = (done: number, total: number) => context.told({ step: 'compare', done, total })
    told(0, manifest.tables.length)
    const tables = tableDifferences(manifest, await readTables(connection.query, { told }))
    if (manifest.scope !== 'full') return tables
    return [
      ...tables,
      ...sequenceDifferences(manifest, await readSequences(connection.query)),
      // Another major version counts some of them otherwise.
      ...(scratch.server.major === manifest.server.major ? objectDifferences(manifest, await readObjects(connection.query)) : []),
    ]
  } catch (error) {
    // The connection that was cut says nothing of why.
    scratch.signal.throwIfAborted()
    throw error
  } finally {
    scratch.signal.removeEventListener('abort', stop)
    await connection.close()
  }
}

const nameOf = ({ schema, name }: { schema: string; name: string }) => `${schema}.${name}`

/** Every table of the manifest, with all its rows; and no other. */
export function tableDifferences(manifest: Manifest, found: Manifest['tables']): string[] {
  const there = new Map(found.map(table => [nameOf(table), table]))
  const expected = manifest.tables.flatMap(table => {
    const copy = there.get(nameOf(table))
    there.delete(nameOf(table))
    if (copy === undefined) return [`${nameOf(table)} is missing`]
    // The structure alone was taken.
    if (table.hash === null) return []
    if (copy.rows !== table.rows) return [`${nameOf(table)} has ${copy.rows} rows, and not ${table.rows}`]
    return copy.hash === table.hash ? [] : [`${nameOf(table)} has ${table.rows} rows, and their content differs`]
  })
  return [...expected, ...[...there.keys()].map(name => `${name} is not in the manifest`)]
}

/** Sequences are outside of snapshots: the copy's must stand where the manifest's stood, or further. */
export function sequenceDifferences(manifest: Manifest, found: Manifest['sequences']): string[] {
  const there = new Map(found.map(sequence => [nameOf(sequence), sequence.value]))
  return manifest.sequences.flatMap(sequence => {
    const name = nameOf(sequence)
    const value = there.get(name)
    if (value === undefined) return [`the sequence ${name} is missing`]
    if (sequence.value === null) return []
    if (value === null) return [`the sequence ${name} was never used, and stood at ${sequence.value}`]
    return BigInt(value) < BigInt(sequence.value) ? [`the sequence ${name} stands at ${value}, and stood at ${sequence.value}`] : []
  })
}

/** Of manifests that have them. */
export function objectDifferences(manifest: Manifest, found: NonNullable<Manifest['objects']>): string[] {
  const there = new Map(found.map(counts => [counts.schema, counts]))
  return (manifest.objects ?? []).flatMap(expected => {
    const counts = there.get(expected.schema)
    if (counts === undefined) return [`the schema ${expected.schema} is missing`]
    return (['constraints', 'indexes', 'routines', 'triggers', 'views'] as const)
      .filter(kind => counts[kind] !== expected[kind])
      .map(kind => `the schema ${expected.schema} has ${counts[kind]} ${kind}, and not ${expected[kind]}`)
  })
}
