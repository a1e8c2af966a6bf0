import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'

const binary = ['/usr/bin/promtool', '/usr/local/bin/promtool', '/opt/homebrew/bin/promtool'].find(existsSync)

/** Whether tests with Prometheus's own promtool must be left out; says so, loudly. In CI nothing is left out: they fail there. */
export function promtoolMissing(): boolean {
  if (binary !== undefined || process.env.CI !== undefined) return false
  console.warn('SKIPPED: checks of alert rules with promtool. Install it to run them: apt-get install prometheus')
  return true
}

/** Runs promtool to its end; what it said, and whether it was content. */
export function promtool(words: string[], input?: string): { ok: boolean; said: string } {
  if (binary === undefined) throw new Error('promtool is not installed: apt-get install prometheus')
  const { status, stdout, stderr } = spawnSync(binary, words, { encoding: 'utf8', ...(input === undefined ? {} : { input }) })
  return { ok: status === 0, said: stdout + stderr }
}
