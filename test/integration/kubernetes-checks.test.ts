import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { baseByHand, type Manifest, manifestFiles, parseManifests, problemsOf } from '../support/kubernetes.ts'
import { breachesOf } from '../support/kubernetes-policy.ts'

const files = manifestFiles()
const base = baseByHand()

/** The base as text, with one thing changed in it. */
function spoilt(file: string, from: string, to: string): Manifest[] {
  const text = readFileSync(new URL(`../../deploy/kubernetes/${file}`, import.meta.url), 'utf8')
  expect(text.split(from).length, `${from} must stand in ${file}`).toBeGreaterThan(1)
  return parseManifests(text.replaceAll(from, to), file)
}

describe('the checks find', () => {
  const deployment = 'base/deployment.yaml'
  const faults: [what: string, file: string, from: string, to: string, found: string | RegExp][] = [
    ['a key that is misspelt', deployment, 'readinessProbe:', 'readynessProbe:', '/spec/template/spec/containers/0/readynessProbe: unknown key'],
    ['a key one level too deep', deployment, 'revisionHistoryLimit: 3', 'minReadySecond: 3', '/spec/minReadySecond: unknown key'],
    ['a key of another kind', 'base/pod-disruption-budget.yaml', 'maxUnavailable: 1', 'maxSurge: 1', '/spec/maxSurge: unknown key'],
    ['a misspelt key in metadata', 'base/service-account.yaml', '  labels:', '  label:', '/metadata/label: unknown key'],
    ['a text for a number', deployment, 'replicas: 2', 'replicas: two', '/spec/replicas: type'],
    ['a number for a text', deployment, 'value: "50"', 'value: 50', '/value: type'],
    ['a text for a list', 'base/migrate-job.yaml', 'args:\n            - migrate\n            - up\n            - --json', 'args: migrate', '/args: type'],
    ['a port that is none', 'base/network-policy.yaml', 'port: 53', 'port: [53]', '/ports/0/port'],
    ['a key without a value', deployment, 'serviceAccountName: pawl', 'serviceAccountName:', '/serviceAccountName: has no value'],
    ['a required key that is missing', deployment, '  selector:', '  paused: true\n  x:', /required .*"selector"/],
    ['a kind that nobody knows', 'base/service-account.yaml', 'kind: ServiceAccount', 'kind: ServiceAcount', 'nobody knows this kind'],
    ['an unknown key of KEDA', 'components/keda/scaled-object.yaml', 'pollingInterval:', 'pollInterval:', /Unrecognized key: "pollInterval"/],
    ['a number where KEDA wants text', 'components/keda/scaled-object.yaml', '"4"', '4', 'targetQueryValue'],
    ['an unknown key of a PodMonitor', 'components/monitoring/pod-monitor.yaml', 'podMetricsEndpoints:', 'podMetricEndpoints:', /Unrecognized key/],
    ['an unknown key of Kustomize', 'base/kustomization.yaml', 'resources:', 'resource:', /Unrecognized key: "resource"/],
  ]
  for (const [what, file, from, to, found] of faults) {
    test(what, () => {
      const problems = spoilt(file, from, to).flatMap(each => problemsOf(each))
      expect(problems.join('\n')).toMatch(typeof found === 'string' ? new RegExp(found.replaceAll('/', '\\/')) : found)
    })
  }

  test('a key that is there twice', () => {
    expect(() => spoilt(deployment, '  replicas: 2', '  replicas: 2\n  replicas: 3')).toThrow(/unique/)
  })

  const breaches: [rule: string, file: string, from: string, to: string][] = [
    ['has a grace of PAWL_DRAIN_SECONDS + 10', deployment, 'terminationGracePeriodSeconds: 60', 'terminationGracePeriodSeconds: 30'],
    ['has a grace of PAWL_DRAIN_SECONDS + 10', deployment, 'value: "50"', 'value: "60"'],
    ['has no preStop hook', deployment, 'terminationMessagePolicy: FallbackToLogsOnError', 'lifecycle: { preStop: { sleep: { seconds: 5 } } }'],
    ['rolls with maxSurge 1 and maxUnavailable 0', deployment, 'maxUnavailable: 0', 'maxUnavailable: 1'],
    [
      'has a liveness probe of /livez',
      deployment,
      'livenessProbe:\n            httpGet:\n              path: /livez',
      'livenessProbe:\n            httpGet:\n              path: /readyz',
    ],
    ['has a readiness probe of /readyz on 9465', deployment, 'containerPort: 9465', 'containerPort: 8080'],
    [
      'has a startup probe of /livez',
      deployment,
      'startupProbe:\n            httpGet:\n              path: /livez',
      'startupProbe:\n            httpGet:\n              path: /readyz',
    ],
    ['has a minute to start', deployment, 'failureThreshold: 60', 'failureThreshold: 6'],
    ['keeps 3 revisions', deployment, 'revisionHistoryLimit: 3', 'revisionHistoryLimit: 10'],
    ['mounts no token', deployment, 'automountServiceAccountToken: false', 'automountServiceAccountToken: true'],
    ['takes no variables from Services', 'base/migrate-job.yaml', 'enableServiceLinks: false', 'enableServiceLinks: true'],
    ['runs as 65532', deployment, 'runAsUser: 65532', 'runAsUser: 0'],
    ['has a read-only file system', 'base/migrate-job.yaml', 'readOnlyRootFilesystem: true', 'readOnlyRootFilesystem: false'],
    ['drops ALL capabilities', deployment, '- ALL', '- NET_RAW'],
    ['has no cpu limit', deployment, 'limits:', 'limits:\n              cpu: "1"'],
    ['has a memory limit', deployment, 'memory: 512Mi', 'ephemeral-storage: 512Mi'],
    ['keeps the heap of Node below 80 %', deployment, 'memory: 512Mi', 'memory: 256Mi'],
    ['has an emptyDir, with a sizeLimit', deployment, 'sizeLimit: 1Gi', 'medium: Memory'],
    ['has an emptyDir at /tmp', deployment, 'mountPath: /tmp', 'mountPath: /var/tmp'],
    ['starts by the ENTRYPOINT', deployment, 'args:', 'command: [node]\n          args:'],
    ['"serve" is a command of pawl', deployment, '- work', '- serve'],
    ['migrates up', 'base/migrate-job.yaml', '- up', '- down'],
    ['Pawl reads no variable PAWL_DRAIN', deployment, 'name: PAWL_DRAIN_SECONDS', 'name: PAWL_DRAIN'],
    ['PAWL_DRAIN_SECONDS', deployment, 'value: "50"', 'value: 50s'],
    [
      'DATABASE_URL belongs into a Secret',
      deployment,
      'name: DATABASE_URL\n',
      'name: DATABASE_URL\n              value: postgres://x\n            - name: DATABASE_URL\n',
    ],
    ['migrates with the login of the workers', 'base/migrate-job.yaml', 'pawl-owner-database', 'pawl-worker-database'],
    [
      'encrypts its backups',
      deployment,
      'name: PAWL_DRAIN_SECONDS\n',
      'name: BACKUP_DIR\n              value: /backups\n            - name: PAWL_DRAIN_SECONDS\n',
    ],
    [
      'must know the place of backups',
      deployment,
      'name: PAWL_DRAIN_SECONDS\n',
      'name: PAWL_BACKUP_RECIPIENTS\n              value: ""\n            - name: PAWL_DRAIN_SECONDS\n',
    ],
    ['ConfigMap other is not there', deployment, 'configMapRef:\n                name: pawl', 'configMapRef:\n                name: other'],
    ['ServiceAccount other is not there', 'base/migrate-job.yaml', 'serviceAccountName: pawl', 'serviceAccountName: other'],
    ['volume tmp is not there', deployment, '        - name: tmp\n          emptyDir', '        - name: scratch\n          emptyDir'],
    ['one, with maxUnavailable 1, for the workers', 'base/pod-disruption-budget.yaml', 'maxUnavailable: 1', 'minAvailable: 1'],
    ['leaves the Job alone', 'base/pod-disruption-budget.yaml', '      app.kubernetes.io/component: worker', ''],
    ['one closes both directions', 'base/network-policy.yaml', '    - Ingress\n', ''],
    ['selects its own pods', deployment, '    matchLabels:\n      app.kubernetes.io/name: pawl', '    matchLabels:\n      app.kubernetes.io/name: other'],
  ]
  for (const [rule, file, from, to] of breaches) {
    test(`a breach of: ${rule}`, () => {
      const changed = spoilt(file, from, to)
      const kept = base.filter(each => !changed.some(other => other.kind === each.kind && other.metadata?.name === each.metadata?.name))
      const found = breachesOf([...kept, ...changed])
      expect(found.join('\n')).toContain(rule)
    })
  }

  test('an autoscaler beside a fixed number, or for another Deployment, and a PodMonitor of another port', () => {
    const [scaler] = files.get('components/keda/scaled-object.yaml') ?? []
    const [monitor] = spoilt('components/monitoring/pod-monitor.yaml', 'port: http', 'port: web')
    if (scaler === undefined || monitor === undefined) throw new Error('the components are not there')
    expect(breachesOf([...base, scaler, monitor])).toEqual([
      'ScaledObject: is alone in saying how many: the Deployment has replicas too',
      'PodMonitor: names a port of theirs',
    ])
    const [other] = spoilt('components/keda/scaled-object.yaml', '    name: pawl-worker', '    name: pawl')
    expect(breachesOf([...base, ...(other === undefined ? [] : [other])])).toContain('ScaledObject: scales the workers')
  })
})
