import { lstatSync } from 'node:fs'

/**
 * Whether a directory is ours alone to write: no link, made by `owner` (us, unless said otherwise), and open to nobody else. What has a known name
 * in a place that everyone may write to, such as /tmp, may have been made by anyone before us.
 */
export function isOnlyOurs(path: string, owner: number | undefined = process.getuid?.()): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found?.isDirectory() !== true) return false
  // Where there are no owners (Windows), the place for temporary files is the user's own.
  return owner === undefined || (found.uid === owner && (found.mode & 0o022) === 0)
}
