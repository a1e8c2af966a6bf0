// Runs `npm ci` when node_modules is missing, half made, or older than package-lock.json. Plain JavaScript for any Node >= 18,
// because it runs before the Node 24 that node_modules brings along. Two of it at once: the second waits for the first.
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = process.env.PAWL_ENSURE_ROOT ?? join(dirname(fileURLToPath(import.meta.url)), '..')
const quiet = process.argv.includes('--quiet')
const lock = join(root, '.npm-ci.lock')
/** npm waits five minutes for an answer that got lost: a mirror that stalls once cost ten of them. */
const PATIENCE = ['--fetch-timeout=30000', '--fetch-retries=5']

function modified(path) {
  try {
    return statSync(join(root, path)).mtimeMs
  } catch {
    return undefined
  }
}

/** npm writes this file last: a killed `npm ci` leaves none. */
function isInstalled() {
  const installed = modified('node_modules/.package-lock.json')
  return installed !== undefined && installed >= (modified('package-lock.json') ?? 0)
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

function takeLock() {
  try {
    mkdirSync(lock)
    writeFileSync(join(lock, 'pid'), String(process.pid))
    return true
  } catch (error) {
    if (error.code === 'EACCES' || error.code === 'EROFS') {
      console.error(
        `error: ${root} is not writable, so the dependencies cannot be installed\n  next: run "npm ci" there as its owner, or clone to a directory of your own`,
      )
      process.exit(1)
    }
    if (error.code !== 'EEXIST') throw error
  }
  try {
    const holder = Number(readFileSync(join(lock, 'pid'), 'utf8'))
    if (holder > 0 && !isAlive(holder)) rmSync(lock, { recursive: true, force: true })
  } catch {
    // The holder is just writing its pid, or just gone: look again.
  }
  return false
}

function install() {
  // The npm that runs us, else the one on the path. Its output goes to standard error: --json commands own standard output.
  const npm = process.env.npm_execpath
  const [command, ...args] = npm !== undefined && /\.[cm]?js$/.test(npm) ? [process.execPath, npm, 'ci'] : ['npm', 'ci']
  console.error('installing dependencies (npm ci) …')
  const made = spawnSync(command, [...args, '--no-audit', '--no-fund', '--loglevel=error', ...PATIENCE], { cwd: root, stdio: ['ignore', 2, 2] })
  if (made.error || made.status !== 0) {
    console.error(
      `error: npm ci failed (${made.error ? made.error.message : `exit code ${made.status}`})\n  next: run "npm ci" in ${root} and read what it says`,
    )
    process.exit(1)
  }
}

if (!isInstalled()) {
  while (!takeLock()) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100)
  try {
    if (!isInstalled()) install()
  } finally {
    rmSync(lock, { recursive: true, force: true })
  }
  if (!quiet) console.error('dependencies are installed')
}
