import { z } from 'zod'

// Kinds that come with an operator or belong to Kustomize: no package has their types, so these are the fields we use, and no others.

const labels = z.record(z.string(), z.string())
const metadata = z.strictObject({ name: z.string(), namespace: z.string().optional(), labels: labels.optional(), annotations: labels.optional() })
const target = z.strictObject({ kind: z.string(), name: z.string() })

const kustomization = {
  resources: z.array(z.string()).optional(),
  components: z.array(z.string()).optional(),
  configMapGenerator: z.array(z.strictObject({ name: z.string(), behavior: z.enum(['merge']).optional(), envs: z.array(z.string()) })).optional(),
  images: z.array(z.strictObject({ name: z.string(), newName: z.string(), digest: z.string().regex(/^sha256:[0-9a-f]{64}$/) })).optional(),
  replicas: z.array(z.strictObject({ name: z.string(), count: z.int() })).optional(),
  patches: z.array(z.strictObject({ path: z.string().optional(), patch: z.string().optional(), target: target.optional() })).optional(),
}

/** KEDA takes every value of a trigger as text. */
const scaledObject = z.strictObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata,
  spec: z.strictObject({
    scaleTargetRef: z.strictObject({ name: z.string() }),
    pollingInterval: z.int(),
    minReplicaCount: z.int().min(1),
    maxReplicaCount: z.int(),
    fallback: z.strictObject({ failureThreshold: z.int(), replicas: z.int() }),
    advanced: z.strictObject({
      horizontalPodAutoscalerConfig: z.strictObject({
        behavior: z.strictObject({
          scaleDown: z.strictObject({
            stabilizationWindowSeconds: z.int(),
            policies: z.array(z.strictObject({ type: z.enum(['Pods', 'Percent']), value: z.int(), periodSeconds: z.int() })),
          }),
        }),
      }),
    }),
    triggers: z.array(
      z.strictObject({
        type: z.literal('postgresql'),
        authenticationRef: z.strictObject({ name: z.string() }),
        metadata: z.strictObject({ query: z.string(), targetQueryValue: z.string().regex(/^\d+(\.\d+)?$/) }),
      }),
    ),
  }),
})

/** The rules themselves are promtool's to judge. */
const prometheusRule = z.strictObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata,
  spec: z.strictObject({
    groups: z.array(z.strictObject({ name: z.string(), interval: z.string().optional(), rules: z.array(z.looseObject({ expr: z.string() })).min(1) })).min(1),
  }),
})

/** A kind's name → its strict schema. */
export const customKinds: ReadonlyMap<string, z.ZodType> = new Map<string, z.ZodType>([
  ['kustomize.config.k8s.io/v1beta1 Kustomization', z.strictObject({ apiVersion: z.string(), kind: z.string(), ...kustomization })],
  ['kustomize.config.k8s.io/v1alpha1 Component', z.strictObject({ apiVersion: z.string(), kind: z.string(), ...kustomization })],
  ['keda.sh/v1alpha1 ScaledObject', scaledObject],
  [
    'keda.sh/v1alpha1 TriggerAuthentication',
    z.strictObject({
      apiVersion: z.string(),
      kind: z.string(),
      metadata,
      spec: z.strictObject({ secretTargetRef: z.array(z.strictObject({ parameter: z.string(), name: z.string(), key: z.string() })) }),
    }),
  ],
  ['monitoring.coreos.com/v1 PrometheusRule', prometheusRule],
  [
    'monitoring.coreos.com/v1 PodMonitor',
    z.strictObject({
      apiVersion: z.string(),
      kind: z.string(),
      metadata,
      spec: z.strictObject({
        selector: z.strictObject({ matchLabels: labels }),
        podMetricsEndpoints: z.array(
          z.strictObject({ port: z.string(), path: z.string(), interval: z.string().regex(/^\d+s$/), scrapeTimeout: z.string().regex(/^\d+s$/) }),
        ),
      }),
    }),
  ],
])
