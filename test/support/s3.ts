import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { startFauxqs } from 'fauxqs'
import { type Config, readConfig } from '../../src/config.ts'

/** A request that went to the fake S3: `POST /bucket/key?uploads`. */
export type Asked = { method: string; path: string; headers: IncomingMessage['headers'] }

export type FakeS3 = {
  endpoint: string
  bucket: string
  /** For `vi.stubEnv` or a child process: what the SDK reads. */
  env: Record<string, string>
  config: Config
  asked: Asked[]
  /** Multipart uploads that were begun and neither completed nor aborted. */
  uploads(): { key: string; id: string }[]
  /** Begins an upload as someone else would. */
  begin(key: string): Promise<{ key: string; id: string }>
  /** The next `times` requests that `when` chooses are not passed on, but answered with this, or with a reset connection. */
  fail(times: number, when: (asked: Asked) => boolean, answer: { status: number; code: string } | 'reset'): void
  close(): Promise<void>
}

const BUCKET = 'pawl-test'
const PAGE = 2
/** When all uploads began. */
export const INITIATED = '2026-01-02T03:04:05.000Z'

/**
 * fauxqs behind a front of ours. The front answers ListMultipartUploads, which fauxqs 2.4 doesn't know, two a page; remembers what was
 * asked; and fails on request.
 */
export async function startS3(): Promise<FakeS3> {
  const s3 = await startFauxqs({ port: 0, logger: false, host: '127.0.0.1' })
  s3.createBucket(BUCKET)
  const uploads = new Map<string, string>()
  const asked: Asked[] = []
  const failures: { left: number; when: (asked: Asked) => boolean; answer: { status: number; code: string } | 'reset' }[] = []
  const server = createServer((incoming, response) => {
    const now = { method: incoming.method ?? '', path: incoming.url ?? '', headers: incoming.headers }
    asked.push(now)
    const failure = failures.find(({ left, when }) => left > 0 && when(now))
    if (failure !== undefined) {
      failure.left -= 1
      if (failure.answer === 'reset') incoming.socket.resetAndDestroy()
      else refuse(response, failure.answer)
      return
    }
    const url = new URL(now.path, 'http://s3')
    if (now.method === 'GET' && url.searchParams.has('uploads')) response.end(page(uploads, url.searchParams))
    else pass(s3.port, incoming, response, answer => remember(uploads, now.method, url, answer))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const endpoint = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
  return {
    endpoint,
    bucket: BUCKET,
    env: {
      AWS_ENDPOINT_URL_S3: endpoint,
      AWS_ACCESS_KEY_ID: 'test',
      AWS_SECRET_ACCESS_KEY: 'test',
      AWS_CONFIG_FILE: '/dev/null',
      AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
      AWS_REGION: '',
      PAWL_S3_PATH_STYLE: 'true',
    },
    config: readConfig({ PAWL_S3_PATH_STYLE: 'true' }),
    asked,
    uploads: () => [...uploads].map(([id, key]) => ({ key, id })),
    async begin(key) {
      await fetch(`${endpoint}/${BUCKET}/${key}?uploads`, { method: 'POST' })
      const id = [...uploads].find(([, own]) => own === key)?.[0]
      if (id === undefined) throw new Error(`no upload of ${key} began`)
      return { key, id }
    },
    fail: (times, when, answer) => void failures.push({ left: times, when, answer }),
    async close() {
      await new Promise<void>(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
      await s3.stop()
    },
  }
}

function pass(port: number, incoming: IncomingMessage, response: ServerResponse, seen: (answer: { status: number; text: string }) => void): void {
  const { method, url, headers } = incoming
  const onward = request({ port, host: '127.0.0.1', method, path: url, headers }, answer => {
    const status = answer.statusCode ?? 500
    response.writeHead(status, answer.headers)
    let text = ''
    answer.on('data', chunk => {
      if (text.length < 10_000) text += chunk
    })
    // Before the client has its answer, or it could look at the uploads too early.
    answer.on('end', () => seen({ status, text }))
    answer.pipe(response)
  })
  onward.on('error', () => response.destroy())
  incoming.pipe(onward)
}

function remember(uploads: Map<string, string>, method: string, url: URL, { status, text }: { status: number; text: string }): void {
  if (status >= 300) return
  const id = /<UploadId>(.*?)<\/UploadId>/.exec(text)?.[1]
  if (method === 'POST' && url.searchParams.has('uploads') && id !== undefined) uploads.set(id, keyOf(url))
  if (method === 'POST' || method === 'DELETE') uploads.delete(url.searchParams.get('uploadId') ?? '')
}

const keyOf = (url: URL) => decodeURIComponent(url.pathname.split('/').slice(2).join('/'))

function refuse(response: ServerResponse, { status, code }: { status: number; code: string }): void {
  response.writeHead(status, { 'content-type': 'application/xml', connection: 'close' })
  response.end(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>as the test asked</Message></Error>`)
}

/** In the order of S3: by key, then by upload. */
function page(uploads: Map<string, string>, query: URLSearchParams): string {
  const after = `${query.get('key-marker') ?? ''}\n${query.get('upload-id-marker') ?? ''}`
  const found = [...uploads]
    .map(([id, key]) => ({ id, key, order: `${key}\n${id}` }))
    .filter(({ key, order }) => key.startsWith(query.get('prefix') ?? '') && (after === '\n' || order > after))
    .sort((one, other) => (one.order < other.order ? -1 : 1))
  const shown = found.slice(0, PAGE)
  const last = shown.at(-1)
  const next = `<NextKeyMarker>${last?.key ?? ''}</NextKeyMarker><NextUploadIdMarker>${last?.id ?? ''}</NextUploadIdMarker>`
  const rows = shown.map(({ id, key }) => `<Upload><Key>${key}</Key><UploadId>${id}</UploadId><Initiated>${INITIATED}</Initiated></Upload>`).join('')
  return `<?xml version="1.0"?><ListMultipartUploadsResult>${next}<IsTruncated>${found.length > PAGE}</IsTruncated>${rows}</ListMultipartUploadsResult>`
}
