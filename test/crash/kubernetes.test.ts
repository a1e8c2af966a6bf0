import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ask, start } from '../support/embedded.ts'
import { runPawl, startWorker } from '../support/process.ts'

const page = readFileSync(new URL('../../docs/kubernetes.md', import.meta.url), 'utf8')

/** What a pod of the Deployment or of the Job sees beside its database. */
const inCluster = { NODE_ENV: 'production', KUBERNETES_SERVICE_HOST: '10.0.0.1', PAWL_DRAIN_SECONDS: '50' }

test('what docs/kubernetes.md has an administrator do is enough: the owner migrates, the worker gets ready and drains, the observer counts', async () => {
  const { url } = await start({ ephemeral: true })
  const [, sql = ''] = /```sql\n([\s\S]*?)```/.exec(page) ?? []
  // `create database` may not stand in the transaction that several statements make.
  for (const statement of sql.split(';').filter(text => text.trim() !== '')) await ask(url, statement)
  const as = (login: string) => {
    const changed = new URL(url)
    changed.pathname = '/shop'
    changed.username = `shop_${login}`
    changed.password = `secret of the ${login}`
    return changed.href
  }

  // A worker that comes before the Job ends by itself, and says what is missing.
  const early = await runPawl(['work'], as('worker'), { env: inCluster })
  expect([early.code, early.stdout + early.stderr]).toEqual([expect.any(Number), expect.stringMatching(/database lacks \d+ of \d+ migrations/)])
  expect(early.code).not.toBe(0)

  const migrated = await runPawl(['migrate', 'up', '--json'], as('owner'), { env: inCluster })
  expect([migrated.code, migrated.stderr.split('\n').filter(line => line.includes('rror'))]).toEqual([0, []])
  expect(JSON.parse(migrated.stdout).applied.length).toBeGreaterThan(10)
  // The next deploy's Job finds nothing to do.
  expect(JSON.parse((await runPawl(['migrate', 'up', '--json'], as('owner'), { env: inCluster })).stdout).applied).toEqual([])

  const worker = await startWorker(as('worker'), { env: inCluster })
  const probe = async (path: string) => (await fetch(`http://127.0.0.1:${worker.httpPort}${path}`)).status
  expect(await probe('/livez')).toBe(200)
  expect(await probe('/readyz')).toBe(200)
  expect(await ask(as('observer'), 'select jobs from pawl.backlog')).toEqual([{ jobs: expect.any(Number) }])
  // With every queue paused it is not ready, and yet nothing that a restart would mend.
  await ask(as('owner'), 'select pawl.pause(queue) from pawl.queues')
  await expect.poll(() => probe('/readyz'), { timeout: 10_000 }).toBe(503)
  expect(await probe('/livez')).toBe(200)
  worker.signal('SIGTERM')
  expect(await worker.exited).toEqual({ code: 0, signal: null })
})
