import type { Kind, Scope } from '../../workers/maintenance/backups/manifest.ts'
import { type Candidate, decide, type Policy } from '../../workers/maintenance/backups/retention.ts'

/** When retention is asked, unless a test says otherwise. */
export const NOW = new Date('2026-11-21T04:00:00Z')

/** Whose backups these are. */
export const OWN = { database: 'shop', cluster: '7300000000000000001' }

/** As the documents have it. */
export const policy: Policy = { ...OWN, keepDays: 30, keep: { daily: 7, weekly: 4, monthly: 12 } }

type Given = { takenAt: string; verified?: boolean; kind?: Kind; scope?: Scope; database?: string; cluster?: string; name?: string }

/** A backup as retention sees one. */
export function backup({ takenAt, verified = true, kind = 'daily', scope = 'full', database = OWN.database, cluster = OWN.cluster, name }: Given): Candidate {
  return {
    manifest: { name: name ?? `${takenAt}-${kind}`, kind, scope, database, cluster, takenAt },
    verification: verified ? { verifiedAt: takenAt } : undefined,
  }
}

/** Those that stay. */
export const kept = (backups: readonly Candidate[], by: Policy = policy, now = NOW) =>
  decide(backups, by, now)
    .filter(({ verdict }) => verdict === 'keep')
    .map(decision => decision.backup)

/** Their names, in order. */
export const namesOf = (backups: readonly Candidate[]) => backups.map(({ manifest }) => manifest.name).sort()

/** The oldest first. */
export const inOrder = (backups: readonly Candidate[]) =>
  [...backups].sort((one, other) => Date.parse(one.manifest.takenAt) - Date.parse(other.manifest.takenAt))

/** The Monday of the ISO week of a day, both such as 2026-11-21. */
export function mondayOf(day: string): string {
  const date = new Date(`${day}T00:00:00Z`)
  while (date.getUTCDay() !== 1) date.setUTCDate(date.getUTCDate() - 1)
  return date.toISOString().slice(0, 10)
}
