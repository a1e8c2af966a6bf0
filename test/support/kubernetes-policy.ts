import { z } from 'zod'
import type { Manifest } from './kubernetes.ts'
import { backedUp, broken, envOf, nameOf, podBreaches, selector, variableBreaches, type Workload, workload } from './kubernetes-pods.ts'

const PORT = 9465
/** What the drain leaves of the grace: for the last batches, the pool and the pods' own end. */
const AFTER_DRAIN_SECONDS = 10

/** What in a set of manifests that belong together breaks the rules of docs/kubernetes.md; each breach begins with the thing it is about. */
export function breachesOf(manifests: readonly Manifest[]): string[] {
  const workloads = manifests.filter(({ kind }) => kind === 'Deployment' || kind === 'Job').map(manifest => workload.parse(manifest))
  const deployment = workloads.find(({ kind }) => kind === 'Deployment')
  const job = workloads.find(({ kind }) => kind === 'Job')
  if (deployment === undefined || job === undefined) return ['a Deployment of workers and a Job for migrations belong together']
  return [
    ...workloads.flatMap(each => [...podBreaches(each), ...variableBreaches(each, manifests), ...referenceBreaches(each, manifests)]),
    ...workerBreaches(deployment),
    ...(secretsOf(deployment) === secretsOf(job) ? [`${nameOf(job)}: migrates with the login of the workers`] : []),
    ...(backedUp(job) === backedUp(deployment) ? [] : [`${nameOf(job)}: must know the place of backups where the workers do`]),
    ...companionBreaches(deployment, job, manifests),
  ]
}

const secretsOf = (each: Workload) => envOf(each).find(({ name }) => name === 'DATABASE_URL')?.valueFrom?.secretKeyRef?.name

/** What is named is there. Secrets are the cluster's own. */
function referenceBreaches(each: Workload, manifests: readonly Manifest[]): string[] {
  const there = new Set(manifests.map(({ kind, metadata }) => `${kind} ${metadata?.name}`))
  const spec = each.spec.template.spec
  const wanted = [
    `ServiceAccount ${spec.serviceAccountName}`,
    ...spec.containers.flatMap(({ envFrom }) => envFrom.flatMap(({ configMapRef }) => (configMapRef === undefined ? [] : [`ConfigMap ${configMapRef.name}`]))),
    ...spec.volumes.flatMap(({ persistentVolumeClaim: claim }) => (claim === undefined ? [] : [`PersistentVolumeClaim ${claim.claimName}`])),
  ]
  const mounts = spec.containers.flatMap(({ volumeMounts }) => volumeMounts.map(({ name }) => name))
  return [
    ...wanted.filter(name => !there.has(name)).map(name => `${nameOf(each)}: ${name} is not there`),
    ...mounts.filter(name => !spec.volumes.some(one => one.name === name)).map(name => `${nameOf(each)}: volume ${name} is not there`),
  ]
}

const rolling = z.object({ type: z.literal('RollingUpdate'), rollingUpdate: z.object({ maxSurge: z.literal(1), maxUnavailable: z.literal(0) }) })

function workerBreaches(deployment: Workload): string[] {
  const { spec } = deployment
  const [one] = spec.template.spec.containers
  const drain = Number(one?.env.find(({ name }) => name === 'PAWL_DRAIN_SECONDS')?.value)
  const asks = (which: 'startupProbe' | 'livenessProbe' | 'readinessProbe', path: string) => {
    const get = one?.[which]?.httpGet
    return get?.path === path && (get.port === PORT || one?.ports.some(port => port.name === get.port && port.containerPort === PORT) === true)
  }
  return broken(nameOf(deployment), [
    [rolling.safeParse(spec.strategy).success, 'rolls with maxSurge 1 and maxUnavailable 0'],
    [spec.revisionHistoryLimit === 3, 'keeps 3 revisions'],
    [spec.template.spec.terminationGracePeriodSeconds === drain + AFTER_DRAIN_SECONDS, `has a grace of PAWL_DRAIN_SECONDS + ${AFTER_DRAIN_SECONDS}`],
    [one?.lifecycle === undefined, 'has no preStop hook: its time is taken from the grace'],
    [asks('startupProbe', '/livez'), `has a startup probe of /livez on ${PORT}`],
    [asks('livenessProbe', '/livez'), `has a liveness probe of /livez on ${PORT}`],
    [asks('readinessProbe', '/readyz'), `has a readiness probe of /readyz on ${PORT}`],
    [(one?.startupProbe?.periodSeconds ?? 0) * (one?.startupProbe?.failureThreshold ?? 0) >= 60, 'has a minute to start'],
    [selects(spec.selector, deployment), 'selects its own pods'],
  ])
}

function selects(by: z.infer<typeof selector> | undefined, each: Workload): boolean {
  const own = each.spec.template.metadata.labels
  return by !== undefined && Object.entries(by.matchLabels).every(([key, value]) => own[key] === value)
}

const budget = z.looseObject({ spec: z.looseObject({ maxUnavailable: z.literal(1), minAvailable: z.undefined().optional(), selector }) })
const walls = z.looseObject({ spec: z.looseObject({ podSelector: selector, policyTypes: z.array(z.string()) }) })
const scaled = z.looseObject({ spec: z.looseObject({ scaleTargetRef: z.looseObject({ name: z.string() }), minReplicaCount: z.int() }) })
const scraped = z.looseObject({
  spec: z.looseObject({ selector, podMetricsEndpoints: z.array(z.looseObject({ port: z.string(), path: z.literal('/metrics') })) }),
})

/** The kinds around the workloads speak of the same pods and ports. */
function companionBreaches(deployment: Workload, job: Workload, manifests: readonly Manifest[]): string[] {
  const of = (kind: string) => manifests.filter(each => each.kind === kind)
  const budgets = of('PodDisruptionBudget').map(each => budget.safeParse(each))
  const closed = of('NetworkPolicy')
    .map(each => walls.parse(each).spec)
    .filter(spec => [...spec.policyTypes].sort().join() === 'Egress,Ingress')
  const ports = deployment.spec.template.spec.containers.flatMap(one => one.ports.map(({ name }) => name))
  return [
    ...broken('PodDisruptionBudget', [
      [
        budgets.length === 1 && budgets.every(each => each.success && selects(each.data.spec.selector, deployment)),
        'one, with maxUnavailable 1, for the workers',
      ],
      [budgets.every(each => !each.success || !selects(each.data.spec.selector, job)), 'leaves the Job alone'],
    ]),
    ...broken('NetworkPolicy', [
      [[deployment, job].every(each => closed.some(spec => selects(spec.podSelector, each))), 'one closes both directions, for workers and Job'],
    ]),
    ...of('ScaledObject').flatMap(each => {
      const { spec } = scaled.parse(each)
      return broken('ScaledObject', [
        [spec.scaleTargetRef.name === deployment.metadata.name, 'scales the workers'],
        [deployment.spec.replicas === undefined, 'is alone in saying how many: the Deployment has replicas too'],
        [spec.minReplicaCount >= 1, 'never goes to 0: timers need a worker'],
      ])
    }),
    ...of('PodMonitor').flatMap(each => {
      const { spec } = scraped.parse(each)
      return broken('PodMonitor', [
        [selects(spec.selector, deployment) && !selects(spec.selector, job), 'selects the workers only'],
        [spec.podMetricsEndpoints.every(({ port }) => ports.includes(port)), 'names a port of theirs'],
      ])
    }),
  ]
}
