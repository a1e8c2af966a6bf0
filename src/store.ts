import type { Config } from './config.ts'
import { PawlError } from './errors.ts'
import type { Store } from './store/contract.ts'
import { openDirectory } from './store/directory.ts'
import { openS3 } from './store/s3.ts'

export type { Draft, Entry, Store } from './store/contract.ts'

/** `baseUrl`: what comes before a key in its URL, where people reach the store through a web server. */
export type StoreOptions = { config: Config; baseUrl?: string | undefined }

/**
 * The store at an absolute path or `s3://bucket/prefix`. Touches nothing yet: a place that can't be used is found out with the first
 * file. Throws `store.place`.
 */
export function openStore(place: string, { config, baseUrl }: StoreOptions): Store {
  const store = place.startsWith('/') ? openDirectory(place) : openBucket(place, config)
  return baseUrl === undefined ? store : { ...store, url: key => `${baseUrl.replace(/\/+$/, '')}/${key}` }
}

function openBucket(place: string, config: Config): Store {
  const [, bucket, prefix = ''] = /^s3:\/\/([^/]+)(?:\/+(.*))?$/.exec(place) ?? []
  if (bucket === undefined) {
    throw new PawlError('store.place', `"${place}" is no place for files`, { hint: 'name an absolute path, or s3://bucket/prefix' })
  }
  const folder = prefix.replace(/\/+$/, '')
  return openS3({ bucket, prefix: folder === '' ? '' : `${folder}/` }, config)
}
