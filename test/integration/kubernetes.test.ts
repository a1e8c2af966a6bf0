import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import {
  baseByHand,
  environmentFiles,
  kubectlMissing,
  type Manifest,
  manifestFiles,
  parseManifests,
  problemsOf,
  render,
  renderComponent,
  renderOverlay,
} from '../support/kubernetes.ts'
import { breachesOf } from '../support/kubernetes-policy.ts'
import { variableNames } from '../../src/config.ts'

const components = ['keda', 'monitoring', 'backup-s3', 'backup-volume']
const files = manifestFiles()
const base = baseByHand()
/** What a kustomization names as a patch is a part of a manifest. */
const patches = new Set(
  [...files].flatMap(([path, manifests]) =>
    manifests.flatMap(({ patches = [] }) =>
      (patches as { path?: string }[]).flatMap(each => (each.path === undefined ? [] : [`${dirname(path)}/${each.path}`])),
    ),
  ),
)

describe('each file by itself', () => {
  test('is there: a base, two overlays, four components', () => {
    const folders = new Set([...files.keys()].map(dirname))
    expect([...folders].sort()).toEqual(['base', ...components.map(name => `components/${name}`).sort(), 'overlays/complete', 'overlays/production'])
    expect([...patches].sort()).toEqual(['components/backup-s3/backup.yaml', 'components/backup-volume/backup.yaml', 'overlays/production/worker.yaml'])
  })

  for (const [path, manifests] of files) {
    test(`${path} has only keys and types that its kind has`, () => {
      expect(manifests.flatMap(each => problemsOf(each, { partial: patches.has(path) }))).toEqual([])
    })
  }

  test('variables in .env files are those that Pawl, Node or the AWS SDK read', () => {
    const names = [...environmentFiles().values()].flatMap(variables => Object.keys(variables))
    expect(names).toContain('BACKUP_S3_BUCKET')
    expect(names.filter(name => !variableNames.includes(name))).toEqual(['AWS_REGION'])
  })

  test('the base keeps the rules, read without Kustomize', () => {
    expect(breachesOf(base)).toEqual([])
  })
})

describe.skipIf(kubectlMissing())('as Kustomize renders it', () => {
  const sets: [name: string, manifests: () => Manifest[], kinds: string[]][] = [
    ['base', () => render('base'), []],
    ['overlays/production', () => render('overlays/production'), []],
    ['overlays/complete', () => render('overlays/complete'), ['ScaledObject', 'TriggerAuthentication', 'PodMonitor', 'NetworkPolicy', 'NetworkPolicy']],
    ['components/keda', () => renderComponent('keda'), ['ScaledObject', 'TriggerAuthentication']],
    ['components/monitoring', () => renderComponent('monitoring'), ['PodMonitor', 'NetworkPolicy']],
    ['components/backup-s3', () => renderComponent('backup-s3'), ['NetworkPolicy']],
    ['components/backup-volume', () => renderComponent('backup-volume'), ['PersistentVolumeClaim']],
  ]
  const always = ['ConfigMap', 'Deployment', 'Job', 'NetworkPolicy', 'PodDisruptionBudget', 'ServiceAccount']

  for (const [name, made, kinds] of sets) {
    test(`${name} is valid, whole, and keeps the rules`, () => {
      const manifests = made()
      expect(manifests.map(({ kind }) => kind).sort()).toEqual([...always, ...kinds].sort())
      expect(manifests.flatMap(each => problemsOf(each))).toEqual([])
      expect(breachesOf(manifests)).toEqual([])
    })
  }

  test('production takes its image by digest everywhere, and spreads three workers', () => {
    const manifests = render('overlays/production')
    const text = JSON.stringify(manifests)
    expect(text.match(/"image":"[^"]+"/g)).toEqual(Array(2).fill(expect.stringMatching(/@sha256:[0-9a-f]{64}"$/)))
    expect(manifests.find(({ kind }) => kind === 'Deployment')?.spec).toMatchObject({
      replicas: 3,
      template: { spec: { topologySpreadConstraints: [{ topologyKey: 'kubernetes.io/hostname' }, { topologyKey: 'topology.kubernetes.io/zone' }] } },
    })
  })

  test('a variable that changes gives the ConfigMap another name, so that workers roll', () => {
    const nameIn = (manifests: Manifest[]) => manifests.find(({ kind }) => kind === 'ConfigMap')?.metadata?.name
    expect(nameIn(render('base'))).not.toBe(nameIn(renderComponent('backup-s3')))
  })
})

describe('the pages', () => {
  const root = fileURLToPath(new URL('../..', import.meta.url))
  const page = readFileSync(new URL('../../docs/kubernetes.md', import.meta.url), 'utf8')

  test('name only files and folders that are there', () => {
    const named = [...page.matchAll(/\b(?:deploy\/kubernetes|deploy\/monitoring|components|overlays|test)(?:\/[\w.-]*\w)+/g)].map(([path]) => path)
    expect(named.length).toBeGreaterThan(15)
    const places = (path: string) => [`${root}${path}`, `${root}deploy/kubernetes/${path}`]
    expect(named.filter(path => !places(path).some(existsSync))).toEqual([])
  })

  test('name every Secret that the manifests want, with its keys, and no other', () => {
    const wanted = [...files.values()].flatMap(manifests => [...JSON.stringify(manifests).matchAll(/"secret(?:Key|Target)?Ref":(\[?\{[^}]+\})/g)])
    const names = new Set(wanted.map(([, reference = '']) => /"name":"([^"]+)"/.exec(reference)?.[1]))
    const told = [...page.matchAll(/^\| `(pawl-[\w-]+)` \| (.+?) \|/gm)]
    expect(told.map(([, name]) => name).sort()).toEqual([...names].sort())
    for (const [, name, keys = ''] of told) {
      const own = wanted
        .filter(([, reference = '']) => reference.includes(`"name":"${name}"`))
        .flatMap(([, reference = '']) => /"key":"([^"]+)"/.exec(reference)?.[1] ?? [])
      expect([name, [...keys.matchAll(/`([\w-]+)`/g)].map(([, key]) => key).sort()]).toEqual([name, [...new Set(own)].sort()])
    }
  })

  test('turn the alert rules into a PrometheusRule that has them all', () => {
    const [, command = ''] = /(\{ printf [\s\S]+?) \| kubectl apply -f -/.exec(page) ?? []
    const { stdout } = spawnSync('sh', ['-c', command], { cwd: root, encoding: 'utf8' })
    const made = parseManifests(stdout, 'docs/kubernetes.md')
    expect(made.map(({ kind }) => kind)).toEqual(['PrometheusRule'])
    expect(made.flatMap(each => problemsOf(each))).toEqual([])
    const rules = readFileSync(`${root}deploy/monitoring/alerts.yaml`, 'utf8').match(/- alert:/g)
    expect(stdout.match(/- alert:/g)).toEqual(rules)
  })

  test.skipIf(kubectlMissing())("show an overlay of one's own that renders and keeps the rules", () => {
    const readme = readFileSync(`${root}deploy/kubernetes/README.md`, 'utf8')
    const manifests = renderOverlay(/```yaml\n([\s\S]*?)```/.exec(readme)?.[1] ?? '')
    expect(manifests.flatMap(each => problemsOf(each))).toEqual([])
    expect(breachesOf(manifests)).toEqual([])
    expect(manifests.find(({ kind }) => kind === 'ConfigMap')?.data).toMatchObject({
      PAWL_CONCURRENCY: '8',
      DB_CONNECTION_LIMIT: '20',
      AWS_REGION: 'eu-central-1',
    })
  })
})
