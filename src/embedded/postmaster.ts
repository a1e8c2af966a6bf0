import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { idOf } from './binaries.ts'
import { environment, type Place } from './cluster.ts'
import { isAlive } from './guard.ts'

/**
 * Sits between us and the postmaster. Its standard input is a pipe from us: when we die, by whatever signal, `read` returns,
 * and once no other process is registered as a user the server is told to stop. /proc first: as another user, kill -0 is refused.
 * `closing` before the second look: whoever registers after that look finds it, and waits for the end instead of joining.
 */
const WATCHDOG = `"$@" & server=$!
read _
used() {
  for user in "$PAWL_PLACE"/users/*; do
    pid=\${user##*/}
    pid=\${pid%%.*}
    if [ -e "$user" ] && { [ -d "/proc/$pid" ] || kill -0 "$pid" 2>/dev/null; }; then return 0; fi
  done
  return 1
}
while :; do
  if ! used; then
    : > "$PAWL_PLACE/closing"
    if ! used; then break; fi
    rm -f "$PAWL_PLACE/closing"
  fi
  kill -0 $server 2>/dev/null || exit 0
  sleep 0.2
done
kill -INT $server 2>/dev/null
wait $server
if [ "$PAWL_EPHEMERAL" = yes ]; then rm -rf "$PAWL_PLACE"; else rm -f "$PAWL_PLACE/closing"; fi`

let registered = 0

/** Registers a use of the server by this process, and returns the file that says so: while it is there, the server stays. */
export function register(place: Place): string {
  registered += 1
  const path = join(place.users, `${process.pid}.${registered}`)
  writeFileSync(path, '')
  return path
}

/** Whether any living process is registered. */
export function isUsed(place: Place): boolean {
  return readdirSync(place.users).some(user => isAlive(Number.parseInt(user, 10)))
}

/** Whether the watchdog has decided to stop the server: too late to join it. */
export function isClosing(place: Place): boolean {
  return existsSync(join(place.root, 'closing'))
}

/** Starts the postmaster under its watchdog, which removes an ephemeral place at the end. Only while no other runs there. */
export function launch(bin: string, place: Place, port: number, options: { settings: Record<string, string>; ephemeral: boolean }): ChildProcess {
  rmSync(join(place.root, 'closing'), { force: true })
  // Those who were killed took no leave; their pid may be somebody else's by tomorrow.
  for (const user of readdirSync(place.users)) if (!isAlive(Number.parseInt(user, 10))) rmSync(join(place.users, user), { force: true })
  const flags = Object.entries({ ...options.settings, port: String(port) }).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const journal = openSync(join(place.root, 'server.log'), 'a')
  // A session of its own: Ctrl-C in the terminal is ours to handle, and must not reach PostgreSQL before the drain.
  const child = spawn('/bin/sh', ['-c', WATCHDOG, 'sh', join(bin, 'postgres'), '-D', place.data, ...flags], {
    ...idOf(place.identity),
    cwd: '/',
    detached: true,
    env: { ...environment(), PAWL_PLACE: place.root, PAWL_EPHEMERAL: options.ephemeral ? 'yes' : 'no' },
    stdio: ['pipe', journal, journal],
  })
  closeSync(journal)
  child.unref()
  return child
}

/** What postmaster.pid says, if that process lives: line 1 is the pid, line 8 the state. */
export function postmaster(place: Place): { pid: number; ready: boolean } | undefined {
  const path = join(place.data, 'postmaster.pid')
  try {
    const lines = readFileSync(path, 'utf8').split('\n')
    const pid = Number(lines[0])
    return isAlive(pid) && !isSomethingElse(pid) ? { pid, ready: lines[7]?.trim() === 'ready' } : undefined
  } catch {
    return undefined
  }
}

/**
 * After a power cut the file stays behind, and its pid may be that of any process by now (pids in a container begin anew).
 * PostgreSQL does not start over such a file, so it is removed; over one whose process is gone it starts by itself.
 */
export function dropForeignPid(place: Place): void {
  const path = join(place.data, 'postmaster.pid')
  try {
    if (isSomethingElse(Number.parseInt(readFileSync(path, 'utf8'), 10))) rmSync(path, { force: true })
  } catch {
    // No file, nothing to drop.
  }
}

/** Whether the process is known to be no PostgreSQL. A zombie has no command line any more; without /proc nothing is known. */
function isSomethingElse(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('postgres')
  } catch {
    return false
  }
}
