import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PawlError } from '../errors.ts'
import { giveTo, type Identity, idOf } from './binaries.ts'

/** Where a server lives: its data, who uses it (one file a user, named by pid), its password and port. */
export type Place = { root: string; data: string; users: string; secret: string; identity: Identity }

type Secret = { password: string; port?: number }

/** The place whose files are in `root`. Touches nothing. */
export function placeIn(root: string, identity: Identity): Place {
  return { root, data: join(root, 'data'), users: join(root, 'users'), secret: join(root, 'server.json'), identity }
}

export function readSecret(place: Place): Secret {
  return JSON.parse(readFileSync(place.secret, 'utf8')) as Secret
}

/** By rename: `pawl status` may read it at this moment. */
export function writeSecret(place: Place, secret: Secret): void {
  const draft = `${place.secret}.${process.pid}`
  writeFileSync(draft, JSON.stringify(secret), { mode: 0o600 })
  renameSync(draft, place.secret)
}

export function urlOf(place: Place): string {
  const { password, port } = readSecret(place)
  return `postgres://pawl:${password}@127.0.0.1:${port}/postgres`
}

/** No locale or library path of the caller's may leak in. */
export function environment(): Record<string, string> {
  return { LC_ALL: 'C', TZ: 'UTC', PATH: '/usr/bin:/bin' }
}

/** Makes the data directory when there is none. Under its own name only once it is whole: we may be killed in the middle of it. */
export function initialise(bin: string, place: Place): void {
  if (existsSync(join(place.data, 'PG_VERSION'))) return
  for (const name of readdirSync(place.root)) {
    if (name.startsWith('data.') || name.startsWith('password.')) rmSync(join(place.root, name), { recursive: true, force: true })
  }
  const draft = `${place.data}.${randomBytes(6).toString('hex')}`
  const password = randomBytes(18).toString('base64url')
  const passwordFile = join(place.root, `password.${process.pid}`)
  writeFileSync(passwordFile, password, { mode: 0o600 })
  giveTo(place.identity, passwordFile)
  const arguments_ = ['-D', draft, '-U', 'pawl', '-A', 'scram-sha-256', `--pwfile=${passwordFile}`, '-E', 'UTF8']
  const locale = ['--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--locale=C', '--no-sync', '--no-instructions']
  const made = spawnSync(join(bin, 'initdb'), [...arguments_, ...locale], { ...idOf(place.identity), cwd: '/', env: environment(), encoding: 'utf8' })
  rmSync(passwordFile, { force: true })
  if (made.status !== 0) {
    rmSync(draft, { recursive: true, force: true })
    throw new PawlError('embedded.initdb', `initdb failed in ${place.root}: ${(made.stderr ?? String(made.error)).trim().split('\n').at(-1)}`, {
      hint: 'set PAWL_DATA_DIR to another directory, or DATABASE_URL',
    })
  }
  writeSecret(place, { password })
  renameSync(draft, place.data)
}
