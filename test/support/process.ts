import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** A line of the worker's log. */
export type LogLine = { level: string; msg: string; [field: string]: unknown }

/** A real `pawl work` process. */
export type WorkerProcess = {
  pid: number
  name: string
  httpPort: number
  log: LogLine[]
  signal(signal: NodeJS.Signals): void
  /** Resolves with exit code and signal once the process is gone. */
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

export type WorkerOptions = {
  name?: string
  env?: Record<string, string>
  /** Directory whose `bin/pawl.ts` is run: a mutated copy of the source, or the checkout. */
  source?: string
  /** What is run instead of `bin/pawl.ts`: a bundle. */
  program?: string
}

const checkout = fileURLToPath(new URL('../..', import.meta.url))

/** Starts a worker and resolves when it says that it is ready. Throws with its log when it ends before that. */
export async function startWorker(url: string, options: WorkerOptions = {}): Promise<WorkerProcess> {
  const name = options.name ?? `worker-${Math.random().toString(36).slice(2, 8)}`
  const child = pawl(['work'], url, { ...options, env: { PAWL_WORKER_NAME: name, PAWL_HTTP_PORT: '0', PAWL_HTTP_HOST: '127.0.0.1', ...options.env } })
  const log: LogLine[] = []
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>(resolve => child.on('exit', (code, signal) => resolve({ code, signal })))
  const ready = new Promise<LogLine>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      if (stream === null) continue
      createInterface({ input: stream }).on('line', text => {
        const line = parseLine(text)
        log.push(line)
        if (line.msg === 'worker ready') resolve(line)
      })
    }
    void exited.then(({ code, signal }) =>
      reject(new Error(`worker ended with ${code ?? signal} before it was ready:\n${log.map(line => JSON.stringify(line)).join('\n')}`)),
    )
  })
  ready.catch(() => {})
  const line = await ready
  return { pid: child.pid ?? 0, name, httpPort: Number(line.http_port), log, signal: signal => void child.kill(signal), exited }
}

/** Runs one command of the CLI to its end. */
export async function runPawl(words: string[], url: string, options: WorkerOptions = {}): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = pawl(words, url, options)
  const read = (stream: ChildProcess['stdout']) => {
    let text = ''
    stream?.on('data', chunk => {
      text += chunk
    })
    return () => text
  }
  const [stdout, stderr] = [read(child.stdout), read(child.stderr)]
  const code = await new Promise<number | null>(resolve => child.on('close', resolve))
  return { code, stdout: stdout(), stderr: stderr() }
}

function pawl(words: string[], url: string, options: WorkerOptions): ChildProcess {
  const { DATABASE_URL: _, ...environment } = process.env
  return spawn(process.execPath, [options.program ?? `${options.source ?? checkout}/bin/pawl.ts`, ...words], {
    env: { ...environment, ...(url === '' ? {} : { DATABASE_URL: url }), ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

function parseLine(text: string): LogLine {
  try {
    return JSON.parse(text) as LogLine
  } catch {
    return { level: 'text', msg: text }
  }
}
