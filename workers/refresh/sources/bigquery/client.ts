import type { BigQuery, BigQueryOptions } from '@google-cloud/bigquery'
import type { Clock } from '../../../../src/clock.ts'
import type { Config } from '../../../../src/config.ts'
import { codeOf, PawlError } from '../../../../src/errors.ts'
import { download } from './download.ts'
import { requestError } from './errors.ts'

/** One call of the REST API; `uri` begins after `/projects/{project}`. */
export type Request = {
  /** What is asked for, for the message of an error. */
  what: string
  uri: string
  method?: 'GET' | 'POST'
  qs?: Record<string, string | number | boolean>
  json?: Record<string, unknown>
  /** Where it is another project than the client's. */
  projectId?: string
}

/** The real client, reduced to what gives raw answers: it still does the authentication, the retries and the project's name. */
export type Client = {
  project: string
  /** Rejects with a PawlError; at once when the signal aborts, though the request itself may still take effect. */
  ask<Answer>(request: Request, signal: AbortSignal): Promise<Answer>
  /** The same of a GET whose answer is large. */
  download<Answer>(request: Request, signal: AbortSignal): Promise<Answer>
}

const EMULATOR_PAUSE_MS = 200

type Package = { BigQuery: new (options: BigQueryOptions) => BigQuery }

/** Loads the client, which is an optional dependency, and points it at the emulator where the configuration names one. */
export async function openClient(config: Config, clock: Clock, project: string | undefined, load = loadPackage): Promise<Client> {
  const { BigQuery } = await load().catch(notInstalled)
  const endpoint = config.bigqueryEndpoint
  // The client would ask the metadata server for a project, too; an emulator takes any name.
  const named = project ?? config.googleProject ?? (endpoint === undefined ? undefined : 'local')
  const client = new BigQuery({ ...(named === undefined ? {} : { projectId: named }), ...(endpoint === undefined ? {} : emulated(endpoint)) })
  // It takes BIGQUERY_EMULATOR_HOST as it stands, without scheme or path, where the variable is set.
  if (endpoint !== undefined) client.baseUrl = endpoint
  const found = named ?? (await projectOf(client))
  return {
    project: found,
    ask: (request, signal) => ask(client, request, signal),
    download({ what, uri, qs = {}, projectId = found }, signal) {
      const search = new URLSearchParams()
      for (const [name, value] of Object.entries(qs)) search.set(name, String(value))
      const url = `${client.baseUrl}/projects/${encodeURIComponent(projectId)}${uri}?${search.toString()}`
      const headers = () => client.authClient.getRequestHeaders(url)
      const pauseMs = endpoint === undefined ? 1000 : EMULATOR_PAUSE_MS
      const downloaded = download<never>({ what, url, headers, clock, pauseMs }, signal)
      return downloaded.catch((error: unknown) => {
        throw signal.aborted ? interrupted(signal, what) : error
      })
    },
  }
}

/** An emulator asks for no identity, and looking for one would probe the metadata server of a cloud for seconds. */
function emulated(endpoint: string): BigQueryOptions {
  const anonymous = { getRequestHeaders: () => Promise.resolve(new Headers()) }
  return {
    apiEndpoint: new URL(endpoint).origin,
    authClient: anonymous as unknown as NonNullable<BigQueryOptions['authClient']>,
    // No crowd of clients has to be kept apart on one's own machine.
    retryOptions: { maxRetryDelay: EMULATOR_PAUSE_MS / 1000 },
  }
}

async function projectOf(client: BigQuery): Promise<string> {
  try {
    return await client.getProjectId()
  } catch (error) {
    throw requestError(error, 'looking for the project')
  }
}

function ask<Answer>(client: BigQuery, { what, ...request }: Request, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const interrupt = () => reject(interrupted(signal, what))
    if (signal.aborted) return interrupt()
    signal.addEventListener('abort', interrupt, { once: true })
    client.request(request, (error, body) => {
      signal.removeEventListener('abort', interrupt)
      if (error) reject(requestError(error, what))
      else resolve(body as Answer)
    })
  })
}

/** What an aborted signal throws: nothing went wrong, and another worker goes on. */
export function interrupted(signal: AbortSignal, what: string): PawlError {
  if (signal.reason instanceof PawlError) return signal.reason
  return new PawlError('refresh.interrupted', `interrupted while ${what}`, { retryable: true })
}

/** Not at the top: a worker that reads nothing from BigQuery shall not pay for the client, nor need it. */
function loadPackage(): Promise<Package> {
  return import('@google-cloud/bigquery')
}

function notInstalled(error: unknown): never {
  if (codeOf(error) !== 'ERR_MODULE_NOT_FOUND') throw error
  throw new PawlError('refresh.client_missing', 'the client of BigQuery is not installed', { hint: 'npm install @google-cloud/bigquery@9.3.0', cause: error })
}
