import type { Manifest, Verification } from './manifest.ts'

/** What retention looks at of a backup; `Stored` has it. */
export type Candidate = {
  manifest: Pick<Manifest, 'name' | 'kind' | 'scope' | 'database' | 'cluster' | 'takenAt'>
  verification: Pick<Verification, 'verifiedAt'> | undefined
}

/** Whose backups may go, and which of them stay: all that are younger than `keepDays`, and so many of each generation. */
export type Policy = Readonly<{
  database: string
  cluster: string
  keepDays: number
  keep: Readonly<{ daily: number; weekly: number; monthly: number }>
}>

/** `why` names every reason that keeps it, or the one that lets it go. */
export type Decision<Backup extends Candidate> = { backup: Backup; verdict: 'keep' | 'delete'; why: string }

const DAY_MS = 86_400_000

/** 1970-01-01 was a Thursday, and the ISO week begins on Monday. */
const DAYS_BEFORE_EPOCH_WEEK = 3

/** The periods in UTC; equal numbers or texts mean the same one. */
const periods: Readonly<Record<keyof Policy['keep'], (takenMs: number) => number | string>> = {
  daily: takenMs => Math.floor(takenMs / DAY_MS),
  weekly: takenMs => Math.floor((Math.floor(takenMs / DAY_MS) + DAYS_BEFORE_EPOCH_WEEK) / 7),
  monthly: takenMs => new Date(takenMs).toISOString().slice(0, 7),
}

/**
 * Which backups stay and which go, newest first: a pure function of what there is, so that a dry run tells what the real one does.
 *
 * A period counts where it has a verified full backup, and its newest one stands for it: after an outage of three weeks the seven daily ones
 * are those of seven days on which there was one, not seven empty days. What was not shown to be restorable stands for nothing.
 */
export function decide<Backup extends Candidate>(backups: readonly Backup[], policy: Policy, now: Date): Decision<Backup>[] {
  const nowMs = now.getTime()
  const sorted = [...backups].sort(newestFirst)
  const own = sorted.filter(({ manifest }) => isOwn(manifest, policy) && takenMs(manifest) <= nowMs)
  const newest = own.find(backup => backup.verification !== undefined && backup.manifest.scope === 'full')
  const generations = generationsOf(own, policy.keep)
  return sorted.map(backup => {
    const { manifest } = backup
    const reasons = [
      ...(manifest.database === policy.database ? [] : [`of another database, ${manifest.database}`]),
      ...(manifest.cluster === policy.cluster ? [] : [`of another cluster, ${manifest.cluster}`]),
      ...(takenMs(manifest) > nowMs ? ['from the future: a clock is wrong'] : []),
      ...(newest === undefined ? ['no backup is verified'] : []),
      ...(backup === newest ? ['newest verified'] : []),
      ...(generations.get(backup) ?? []),
      ...(nowMs - takenMs(manifest) < policy.keepDays * DAY_MS ? [`younger than ${policy.keepDays} days`] : []),
      ...(backup.verification === undefined && newest !== undefined && newestFirst(backup, newest) < 0
        ? ['not verified, newer than the newest verified one']
        : []),
    ]
    return reasons.length > 0
      ? { backup, verdict: 'keep', why: reasons.join(', ') }
      : { backup, verdict: 'delete', why: `${whatItIs(backup)}, ${policy.keepDays} days old or older` }
  })
}

function isOwn(manifest: Candidate['manifest'], { database, cluster }: Policy): boolean {
  return manifest.database === database && manifest.cluster === cluster
}

const takenMs = (manifest: Candidate['manifest']) => Date.parse(manifest.takenAt)

/** Two of the same moment stand in the order of their names, so that the order they were listed in changes nothing. */
function newestFirst(one: Candidate, other: Candidate): number {
  return takenMs(other.manifest) - takenMs(one.manifest) || (one.manifest.name < other.manifest.name ? -1 : 1)
}

/** `daily 3 of 7` and the like, of each backup that stands for a period. What was taken before a migration stands for none: its days are the migration's. */
function generationsOf<Backup extends Candidate>(newestFirst: readonly Backup[], keep: Policy['keep']): Map<Backup, string[]> {
  const standing = newestFirst.filter(
    ({ manifest, verification }) => verification !== undefined && manifest.scope === 'full' && manifest.kind !== 'pre_migration',
  )
  const reasons = new Map<Backup, string[]>()
  for (const generation of ['daily', 'weekly', 'monthly'] as const) {
    const seen = new Set<number | string>()
    for (const backup of standing) {
      const period = periods[generation](takenMs(backup.manifest))
      if (seen.has(period)) continue
      if (seen.size >= keep[generation]) break
      seen.add(period)
      reasons.set(backup, [...(reasons.get(backup) ?? []), `${generation} ${seen.size} of ${keep[generation]}`])
    }
  }
  return reasons
}

function whatItIs({ manifest, verification }: Candidate): string {
  if (manifest.scope === 'schema') return 'the structure alone'
  if (manifest.scope === 'tables') return 'some tables alone'
  if (manifest.kind === 'pre_migration') return 'taken before a migration'
  return verification === undefined ? 'not verified' : 'in no generation'
}
