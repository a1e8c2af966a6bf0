import { spawnSync } from 'node:child_process'
import { cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { validate as deployment } from 'kubernetes-models/_schemas/IoK8sApiAppsV1Deployment'
import { validate as job } from 'kubernetes-models/_schemas/IoK8sApiBatchV1Job'
import { validate as configMap } from 'kubernetes-models/_schemas/IoK8sApiCoreV1ConfigMap'
import { validate as persistentVolumeClaim } from 'kubernetes-models/_schemas/IoK8sApiCoreV1PersistentVolumeClaim'
import { validate as serviceAccount } from 'kubernetes-models/_schemas/IoK8sApiCoreV1ServiceAccount'
import { validate as networkPolicy } from 'kubernetes-models/_schemas/IoK8sApiNetworkingV1NetworkPolicy'
import { validate as podDisruptionBudget } from 'kubernetes-models/_schemas/IoK8sApiPolicyV1PodDisruptionBudget'
import { parseAllDocuments } from 'yaml'
import { z } from 'zod'
import { customKinds } from './kubernetes-kinds.ts'

/** What every manifest has; the rest is for the checks to judge. */
const manifest = z.looseObject({ apiVersion: z.string(), kind: z.string(), metadata: z.looseObject({ name: z.string() }).optional() })
export type Manifest = z.infer<typeof manifest>

/** Where the manifests are. */
export const manifestsDir = fileURLToPath(new URL('../../deploy/kubernetes', import.meta.url))

type Complaint = { instancePath: string; keyword: string; params: Record<string, unknown> }
/** A compiled schema: what was wrong with the last value hangs on the function itself. */
type Validate = ((data: unknown) => boolean) & { errors?: Complaint[] | null }

const kinds = new Map<string, Validate>([
  ['apps/v1 Deployment', deployment],
  ['batch/v1 Job', job],
  ['networking.k8s.io/v1 NetworkPolicy', networkPolicy],
  ['policy/v1 PodDisruptionBudget', podDisruptionBudget],
  ['v1 ConfigMap', configMap],
  ['v1 PersistentVolumeClaim', persistentVolumeClaim],
  ['v1 ServiceAccount', serviceAccount],
])

/**
 * What is wrong with a manifest by the types of its kind: missing and unknown keys, wrong types, empty values. `partial`: it is a patch, in
 * which much may be missing.
 */
export function problemsOf(manifest: Manifest, { partial = false } = {}): string[] {
  const kind = `${manifest.apiVersion} ${manifest.kind}`
  const custom = customKinds.get(kind)
  if (custom !== undefined) {
    const parsed = custom.safeParse(manifest)
    return parsed.success ? [] : parsed.error.issues.map(issue => `${kind} /${issue.path.join('/')}: ${issue.message}`)
  }
  const validate = kinds.get(kind)
  if (validate === undefined) return [`${kind}: nobody knows this kind here; add its types to test/support/kubernetes.ts`]
  const read = new Set<string>()
  validate(watched(manifest, '', read))
  const complaints = (validate.errors ?? []).filter(error => !(partial && error.keyword === 'required'))
  return [
    ...complaints.map(({ instancePath, keyword, params }) => `${kind} ${instancePath}: ${keyword} ${JSON.stringify(params)}`),
    ...pathsOf(manifest).flatMap(([path, value]) => {
      if (value === null) return [`${kind} ${path}: has no value`]
      return read.has(path) ? [] : [`${kind} ${path}: unknown key`]
    }),
  ]
}

/**
 * The compiled schemas let unknown keys pass, and the schemas themselves are not in the package. But a validator reads every key it knows of,
 * and each key of a free map, and no other: what it never looked at is unknown to Kubernetes.
 */
function watched(value: unknown, path: string, read: Set<string>): unknown {
  if (typeof value !== 'object' || value === null) return value
  return new Proxy(value, {
    get(target, key) {
      const child: unknown = Reflect.get(target, key)
      if (typeof key !== 'string') return child
      read.add(`${path}/${key}`)
      return watched(child, `${path}/${key}`, read)
    },
  })
}

/** Every key of a document, however deep, with its value. */
function pathsOf(value: unknown, path = ''): [path: string, value: unknown][] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, child]) => [[`${path}/${key}`, child] as [string, unknown], ...pathsOf(child, `${path}/${key}`)])
}

/** The documents of a YAML text. Throws where it is no YAML, or says a key twice. */
export function parseManifests(text: string, from: string): Manifest[] {
  return parseAllDocuments(text, { uniqueKeys: true }).map(document => {
    const [error] = [...document.errors, ...document.warnings]
    if (error !== undefined) throw new Error(`${from}: ${error.message}`)
    return manifest.parse(document.toJS())
  })
}

/** Every YAML file below the folder by its path, as the documents it holds. */
export function manifestFiles(): Map<string, Manifest[]> {
  const paths = globSync('**/*.yaml', { cwd: manifestsDir }).sort()
  return new Map(paths.map(path => [path, parseManifests(readFileSync(join(manifestsDir, path), 'utf8'), path)]))
}

/** The variables in each `.env` file below the folder, by its path. */
export function environmentFiles(): Map<string, Record<string, string>> {
  const paths = globSync('**/*.env', { cwd: manifestsDir }).sort()
  return new Map(
    paths.map(path => {
      const lines = readFileSync(join(manifestsDir, path), 'utf8')
        .split('\n')
        .filter(line => line.trim() !== '' && !line.startsWith('#'))
      return [path, Object.fromEntries(lines.map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))]
    }),
  )
}

/** The base as it is read without kubectl: its files, and the ConfigMap that Kustomize makes of pawl.env. */
export function baseByHand(): Manifest[] {
  const files = [...manifestFiles()].filter(([path]) => dirname(path) === 'base' && basename(path) !== 'kustomization.yaml')
  const data = environmentFiles().get('base/pawl.env') ?? {}
  return [...files.flatMap(([, manifests]) => manifests), { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'pawl' }, data }]
}

/** Whether what needs kubectl must be left out; says so, loudly. In CI too: Debian has none that is new enough, and each file is checked without it. */
export function kubectlMissing(): boolean {
  const missing = spawnSync('kubectl', ['kustomize', '--help']).status !== 0
  if (missing) console.warn('SKIPPED: what Kustomize makes of deploy/kubernetes. Install kubectl (tried with 1.32): https://kubernetes.io/docs/tasks/tools')
  return missing
}

/** What `kubectl kustomize` makes of a folder below the manifests. */
export function render(folder: string, root = manifestsDir): Manifest[] {
  const { status, stdout, stderr } = spawnSync('kubectl', ['kustomize', join(root, folder)], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`kubectl kustomize ${folder}: ${stderr}`)
  return parseManifests(stdout, folder)
}

/** What Kustomize makes of an overlay that somebody would write beside ours. */
export function renderOverlay(kustomization: string): Manifest[] {
  const root = mkdtempSync(join(tmpdir(), 'pawl-kubernetes-'))
  try {
    cpSync(manifestsDir, root, { recursive: true })
    mkdirSync(join(root, 'overlays/own'))
    writeFileSync(join(root, 'overlays/own/kustomization.yaml'), kustomization)
    return render('overlays/own', root)
  } finally {
    rmSync(root, { recursive: true })
  }
}

/** One component on the base alone. */
export function renderComponent(component: string): Manifest[] {
  const lines = ['apiVersion: kustomize.config.k8s.io/v1beta1', 'kind: Kustomization', 'resources: [../../base]', `components: [../../components/${component}]`]
  return renderOverlay(lines.join('\n'))
}
