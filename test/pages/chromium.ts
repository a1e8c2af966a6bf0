import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { until } from '../support/until.ts'

/** A tab of a real browser, steered by the DevTools protocol. */
export type Tab = {
  /** Goes there and waits until it is loaded. */
  open(url: string): Promise<void>
  /** What an expression gives in the page; promises are waited for. */
  ask<Result>(expression: string): Promise<Result>
  press(key: 'Tab' | 'Enter'): Promise<void>
  type(text: string): Promise<void>
  scheme(scheme: 'light' | 'dark'): Promise<void>
  scripts(isOn: boolean): Promise<void>
  /** The page as a PNG: all of it, or so many pixels from the top. */
  screenshot(from?: number, most?: number): Promise<Buffer>
  /** What axe-core finds serious or critical, one line each. */
  faults(): Promise<string[]>
  /** What the page said on its console in anger: refused scripts, failed loads. */
  complaints: string[]
}

export type Chromium = { tab(size?: { width: number; height: number }): Promise<Tab>; close(): Promise<void> }

const binary = ['chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome'].map(name => `/usr/bin/${name}`).find(existsSync)
const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js')

type Answer = {
  id?: number
  sessionId?: string
  method?: string
  params?: Record<string, unknown>
  result?: Record<string, unknown>
  error?: { message: string }
}
type Call = (method: string, params?: Record<string, unknown>, sessionId?: string) => Promise<Record<string, unknown>>

/** Starts a browser with a profile of its own. */
export async function openChromium(): Promise<Chromium> {
  if (binary === undefined) throw new Error('no browser is installed: apt-get install chromium-headless-shell')
  const profile = await mkdtemp(join(tmpdir(), 'pawl-chromium-'))
  const switches = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--hide-scrollbars', '--remote-debugging-port=0']
  // In a process group of its own: on Debian the binary is a shell script that starts the browser, and passes no signal on.
  const child = spawn(binary, [...switches, `--user-data-dir=${profile}`], { stdio: ['ignore', 'ignore', 'pipe'], detached: true })
  const exited = new Promise<void>(resolve => child.once('exit', () => resolve()))
  const address = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stderr }).on('line', line => {
      const found = /DevTools listening on (ws:\S+)/.exec(line)?.[1]
      if (found !== undefined) resolve(found)
    })
    void exited.then(() => reject(new Error('the browser ended before it listened')))
  })
  const { call, listen, hangUp } = await connect(address)
  return {
    async tab({ width, height } = { width: 1280, height: 900 }) {
      const { targetId } = await call('Target.createTarget', { url: 'about:blank' })
      const { sessionId } = await call('Target.attachToTarget', { targetId, flatten: true })
      const send = (method: string, params: Record<string, unknown> = {}) => call(method, params, String(sessionId))
      for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await send(`${domain}.enable`)
      await send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false })
      return tabOf(send, heard => listen(String(sessionId), heard), { width, height })
    },
    async close() {
      hangUp()
      await ended(child.pid ?? 0)
      await rm(profile, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

/** Ends a process group, and waits until nothing of it is left that could write. */
async function ended(group: number): Promise<void> {
  const signal = (number: NodeJS.Signals | 0) => {
    try {
      return process.kill(-group, number)
    } catch {
      return false
    }
  }
  signal('SIGTERM')
  await until('the browser is gone', () => !signal(0))
}

async function connect(address: string): Promise<{ call: Call; listen(session: string, heard: (answer: Answer) => void): void; hangUp(): void }> {
  const socket = new WebSocket(address)
  await new Promise((resolve, reject) => {
    socket.addEventListener('open', resolve, { once: true })
    socket.addEventListener('error', () => reject(new Error('the browser does not answer')), { once: true })
  })
  const waiting = new Map<number, { resolve(result: Record<string, unknown>): void; reject(error: Error): void }>()
  const listeners = new Map<string, (answer: Answer) => void>()
  socket.addEventListener('message', ({ data }) => {
    const answer = JSON.parse(String(data)) as Answer
    if (answer.id === undefined) return listeners.get(answer.sessionId ?? '')?.(answer)
    const caller = waiting.get(answer.id)
    waiting.delete(answer.id)
    if (answer.error === undefined) caller?.resolve(answer.result ?? {})
    else caller?.reject(new Error(answer.error.message))
  })
  let last = 0
  return {
    call: (method, params = {}, sessionId) =>
      new Promise((resolve, reject) => {
        last += 1
        waiting.set(last, { resolve, reject })
        socket.send(JSON.stringify({ id: last, method, params, ...(sessionId === undefined ? {} : { sessionId }) }))
      }),
    listen: (session, heard) => void listeners.set(session, heard),
    hangUp: () => socket.close(),
  }
}

function tabOf(
  send: (method: string, params?: Record<string, unknown>) => Promise<Record<string, unknown>>,
  listen: (heard: (answer: Answer) => void) => void,
  size: { width: number; height: number },
): Tab {
  const complaints: string[] = []
  let loads = 0
  listen(({ method, params }) => {
    if (method === 'Page.loadEventFired') loads += 1
    if (method === 'Log.entryAdded') complaints.push((params?.entry as { text: string } | undefined)?.text ?? '')
    if (method === 'Runtime.exceptionThrown') complaints.push(JSON.stringify(params?.exceptionDetails))
  })
  const ask: Tab['ask'] = async expression => {
    const { result, exceptionDetails } = await send('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true })
    if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails))
    return (result as { value: never }).value
  }
  return {
    complaints,
    ask,
    async open(url) {
      const before = loads
      const { errorText } = await send('Page.navigate', { url })
      if (errorText !== undefined) throw new Error(`${url}: ${JSON.stringify(errorText)}`)
      await until(`${url} is loaded`, () => loads > before)
    },
    async press(key) {
      const code = { Tab: 9, Enter: 13 }[key]
      const about = { key, code: key, windowsVirtualKeyCode: code, ...(key === 'Enter' ? { text: '\r' } : {}) }
      await send('Input.dispatchKeyEvent', { type: 'keyDown', ...about })
      await send('Input.dispatchKeyEvent', { type: 'keyUp', ...about })
    },
    type: async text => void (await send('Input.insertText', { text })),
    scheme: async value => void (await send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value }] })),
    scripts: async isOn => void (await send('Emulation.setScriptExecutionDisabled', { value: !isOn })),
    async screenshot(from = 0, most = Number.MAX_SAFE_INTEGER) {
      const { cssContentSize } = await send('Page.getLayoutMetrics')
      const height = Math.ceil((cssContentSize as { height: number }).height)
      await send('Emulation.setDeviceMetricsOverride', { ...size, height, deviceScaleFactor: 1, mobile: false })
      const { data } = await send('Page.captureScreenshot', {
        format: 'png',
        captureBeyondViewport: true,
        clip: { x: 0, y: from, width: size.width, height: Math.min(most, height - from), scale: 1 },
      })
      await send('Emulation.setDeviceMetricsOverride', { ...size, deviceScaleFactor: 1, mobile: false })
      return Buffer.from(String(data), 'base64')
    },
    async faults() {
      // Evaluated by the protocol, not by the page: its policy stays as it is.
      await send('Runtime.evaluate', { expression: await readFile(axe, 'utf8') })
      return ask<string[]>(
        `axe.run(document).then(({ violations }) => violations.filter(found => ['serious', 'critical'].includes(found.impact))
          .map(found => found.id + ': ' + found.help + ' ' + found.nodes.slice(0, 5).map(node => node.html.slice(0, 200) + ' ' + (node.any[0]?.message ?? '')).join(' | ')))`,
      )
    },
  }
}
