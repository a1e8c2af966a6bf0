import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import type { Stage } from './stage.ts'

/** What a replica said in the end; undefined when it was killed before. */
export type Outcome = { applied?: string[]; error?: string } | undefined

export type Replica = { child: ChildProcess; go(): void; outcome: Promise<Outcome> }

/** Starts a process that is loaded and waits for `go()`. Killed at the end of the test if it is still there. */
export async function startReplica(stage: Stage): Promise<Replica> {
  const child = spawn(process.execPath, [fileURLToPath(new URL('./replica.ts', import.meta.url))], {
    env: { ...process.env, DATABASE_URL: stage.url, DATABASE_DIRECT_URL: '', PAWL_MIGRATIONS_DIR: stage.dir },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const lines: string[] = []
  const ready = Promise.withResolvers<void>()
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    lines.push(...text.split('\n').filter(line => line !== ''))
    if (lines.includes('ready')) ready.resolve()
  })
  const outcome = new Promise<Outcome>(resolve => child.on('close', () => resolve(lines[1] === undefined ? undefined : JSON.parse(lines[1]))))
  child.on('close', () => ready.reject(new Error('the replica died before it was ready')))
  await ready.promise
  return { child, go: () => void child.stdin.write('go\n'), outcome }
}

/** Starts `count` replicas and lets all of them go at the same moment. */
export async function migrateTogether(stage: Stage, count: number): Promise<Outcome[]> {
  const replicas = await Promise.all(Array.from({ length: count }, () => startReplica(stage)))
  for (const replica of replicas) replica.go()
  return Promise.all(replicas.map(replica => replica.outcome))
}
