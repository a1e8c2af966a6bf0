import { z } from 'zod'
import { commands } from '../../bin/commands/index.ts'
import { readConfig, variableNames } from '../../src/config.ts'
import { messageOf } from '../../src/errors.ts'
import type { Manifest } from './kubernetes.ts'

// What is asked of every pod, whoever makes it.

/** The `nonroot` user of the image. */
const USER = 65532
/** Not Pawl's own: Node's, and those of the AWS SDK. */
const foreignVariables = /^(NODE_OPTIONS|AWS_[A-Z_]+|PAWL_SOURCE_\w+)$/
/** Their values hold passwords. */
const secretVariables = /^(DATABASE\w*_URL|PAWL_SCRATCH_URL|PAWL_SOURCE_\w+|AWS_SECRET_ACCESS_KEY|AWS_ACCESS_KEY_ID)$/

const labels = z.record(z.string(), z.string())
/** How others say which pods they mean. */
export const selector = z.looseObject({ matchLabels: labels })
const reference = z.looseObject({ name: z.string(), key: z.string() })
const variable = z.looseObject({
  name: z.string(),
  value: z.string().optional(),
  valueFrom: z.looseObject({ secretKeyRef: reference.optional(), configMapKeyRef: reference.optional() }).optional(),
})
const probe = z.looseObject({
  httpGet: z.looseObject({ path: z.string(), port: z.union([z.string(), z.int()]) }).optional(),
  periodSeconds: z.int().default(10),
  failureThreshold: z.int().default(3),
})
const amounts = z.record(z.string(), z.string())
const container = z.looseObject({
  name: z.string(),
  image: z.string(),
  command: z.unknown().optional(),
  args: z.array(z.string()).default([]),
  envFrom: z.array(z.looseObject({ configMapRef: z.looseObject({ name: z.string() }).optional() })).default([]),
  env: z.array(variable).default([]),
  ports: z.array(z.looseObject({ name: z.string(), containerPort: z.int() })).default([]),
  startupProbe: probe.optional(),
  livenessProbe: probe.optional(),
  readinessProbe: probe.optional(),
  lifecycle: z.unknown().optional(),
  resources: z.looseObject({ requests: amounts.default({}), limits: amounts.default({}) }).optional(),
  securityContext: z
    .looseObject({
      allowPrivilegeEscalation: z.boolean().optional(),
      readOnlyRootFilesystem: z.boolean().optional(),
      capabilities: z.looseObject({ drop: z.array(z.string()) }).optional(),
    })
    .default({}),
  volumeMounts: z.array(z.looseObject({ name: z.string(), mountPath: z.string() })).default([]),
})
const volume = z.looseObject({
  name: z.string(),
  emptyDir: z.looseObject({ sizeLimit: z.string().optional() }).optional(),
  persistentVolumeClaim: z.looseObject({ claimName: z.string() }).optional(),
})
const pod = z.looseObject({
  serviceAccountName: z.string().optional(),
  automountServiceAccountToken: z.boolean().optional(),
  enableServiceLinks: z.boolean().optional(),
  terminationGracePeriodSeconds: z.int().default(30),
  hostNetwork: z.unknown().optional(),
  securityContext: z
    .looseObject({
      runAsNonRoot: z.boolean().optional(),
      runAsUser: z.int().optional(),
      seccompProfile: z.looseObject({ type: z.string() }).optional(),
    })
    .default({}),
  initContainers: z.array(container).default([]),
  containers: z.array(container),
  volumes: z.array(volume).default([]),
})
/** A Deployment or a Job, as far as the rules look at it. */
export const workload = z.looseObject({
  kind: z.string(),
  metadata: z.looseObject({ name: z.string() }),
  spec: z.looseObject({
    replicas: z.int().optional(),
    revisionHistoryLimit: z.int().optional(),
    selector: selector.optional(),
    strategy: z.unknown().optional(),
    template: z.looseObject({ metadata: z.looseObject({ labels }), spec: pod }),
  }),
})
export type Workload = z.infer<typeof workload>
type Container = z.infer<typeof container>

/** `Deployment pawl-worker` */
export const nameOf = ({ kind, metadata }: Pick<Workload, 'kind' | 'metadata'>) => `${kind} ${metadata.name}`
/** The variables of its containers. */
export const envOf = ({ spec }: Workload) => spec.template.spec.containers.flatMap(({ env }) => env)
/** Whether it takes backups that are encrypted. */
export const backedUp = (each: Workload) => envOf(each).some(({ name }) => name === 'PAWL_BACKUP_RECIPIENTS')

/** The breaches among rules that hold or not. */
export function broken(about: string, rules: readonly (readonly [holds: boolean, rule: string])[]): string[] {
  return rules.filter(([holds]) => !holds).map(([, rule]) => `${about}: ${rule}`)
}

/** Rights, file system, resources, command. */
export function podBreaches(each: Workload): string[] {
  const spec = each.spec.template.spec
  const scratch = spec.volumes.filter(({ emptyDir }) => emptyDir !== undefined)
  return [
    ...broken(nameOf(each), [
      [spec.automountServiceAccountToken === false, 'mounts no token of Kubernetes'],
      [spec.enableServiceLinks === false, 'takes no variables from Services'],
      [spec.hostNetwork === undefined, 'stays off the network of its node'],
      [spec.securityContext.runAsNonRoot === true && spec.securityContext.runAsUser === USER, `runs as ${USER}`],
      [spec.securityContext.seccompProfile?.type === 'RuntimeDefault', 'has the seccomp profile RuntimeDefault'],
      [spec.initContainers.length === 0, 'has no init containers: the Job migrates'],
      [scratch.length > 0 && scratch.every(({ emptyDir }) => emptyDir?.sizeLimit !== undefined), 'has an emptyDir, with a sizeLimit'],
    ]),
    ...spec.containers.flatMap(one =>
      containerBreaches(
        nameOf(each),
        one,
        scratch.map(({ name }) => name),
      ),
    ),
  ]
}

function containerBreaches(about: string, one: Container, scratch: readonly string[]): string[] {
  const { requests = {}, limits = {} } = one.resources ?? {}
  const heap = Number(/--max-old-space-size=(\d+)/.exec(one.env.find(({ name }) => name === 'NODE_OPTIONS')?.value ?? '')?.[1])
  const [word = '', verb] = one.args
  return broken(`${about} ${one.name}`, [
    [one.securityContext.allowPrivilegeEscalation === false, 'gains no privileges'],
    [one.securityContext.readOnlyRootFilesystem === true, 'has a read-only file system'],
    [one.securityContext.capabilities?.drop.join() === 'ALL', 'drops ALL capabilities'],
    [requests.cpu !== undefined && requests.memory !== undefined, 'requests cpu and memory'],
    [mebibytes(limits.memory) >= mebibytes(requests.memory), 'has a memory limit, not below its request'],
    [limits.cpu === undefined, 'has no cpu limit'],
    [heap <= 0.8 * mebibytes(limits.memory), 'keeps the heap of Node below 80 % of its memory limit'],
    [one.command === undefined, 'starts by the ENTRYPOINT of the image'],
    [Object.hasOwn(commands, word), `"${word}" is a command of pawl`],
    [word !== 'migrate' || verb === 'up', 'migrates up'],
    [one.volumeMounts.some(({ name, mountPath }) => mountPath === '/tmp' && scratch.includes(name)), 'has an emptyDir at /tmp'],
  ])
}

function mebibytes(amount = ''): number {
  const [, count = 'none', unit] = /^(\d+)(Mi|Gi)$/.exec(amount) ?? []
  return Number(count) * (unit === 'Gi' ? 1024 : 1)
}

/** Every variable exists, its value is accepted, and what holds a password comes from a Secret. */
export function variableBreaches(each: Workload, manifests: readonly Manifest[]): string[] {
  const about = nameOf(each)
  const maps = each.spec.template.spec.containers.flatMap(({ envFrom }) => envFrom.flatMap(({ configMapRef }) => configMapRef?.name ?? []))
  const shared = manifests.filter(({ kind, metadata }) => kind === 'ConfigMap' && maps.includes(metadata?.name ?? ''))
  const fromMaps = Object.assign({}, ...shared.map(({ data }) => amounts.parse(data))) as Record<string, string>
  const own = envOf(each)
  const names = [...Object.keys(fromMaps), ...own.map(({ name }) => name)]
  const plain = { ...fromMaps, ...Object.fromEntries(own.flatMap(({ name, value }) => (value === undefined ? [] : [[name, value]]))) }
  const place = plain.BACKUP_DIR ?? plain.BACKUP_S3_BUCKET
  return [
    ...names.filter(name => !variableNames.includes(name) && !foreignVariables.test(name)).map(name => `${about}: Pawl reads no variable ${name}`),
    ...Object.keys(plain)
      .filter(name => secretVariables.test(name))
      .map(name => `${about}: ${name} belongs into a Secret`),
    ...broken(about, [
      [own.some(({ name, valueFrom }) => name === 'DATABASE_URL' && valueFrom?.secretKeyRef !== undefined), 'has DATABASE_URL from a Secret'],
      [place === undefined || backedUp(each), 'encrypts its backups: PAWL_BACKUP_RECIPIENTS'],
    ]),
    ...refused(plain).map(reason => `${about}: ${reason}`),
  ]
}

function refused(values: Record<string, string>): string[] {
  try {
    readConfig(values)
    return []
  } catch (error) {
    return [messageOf(error)]
  }
}
