import { connect, createServer, type Socket } from 'node:net'
import { systemClock } from '../../src/clock.ts'

/** A TCP proxy in front of PostgreSQL that can stop passing bytes on, as a network does that is there and yet is not. */
export type Proxy = {
  /** `url` with the proxy's address in it. */
  url: string
  stall(): void
  flow(): void
  /** From now on everything takes so long to arrive, each way; 0: at once. */
  delay(ms: number): void
  /** New connections lead to the server of this URL. */
  lead(url: string): void
  /** Resets every connection. */
  cut(): void
  close(): Promise<void>
}

export async function openProxy(url: string): Promise<Proxy> {
  let target = new URL(url)
  const sockets = new Set<Socket>()
  let stalled = false
  let delayMs = 0
  const server = createServer(client => {
    const upstream = connect(Number(target.port), target.hostname)
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        client.destroy()
        upstream.destroy()
      })
    }
    carry(client, upstream, () => delayMs)
    carry(upstream, client, () => delayMs)
    if (stalled) for (const socket of [client, upstream]) socket.pause()
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const through = new URL(url)
  through.hostname = '127.0.0.1'
  through.port = String(typeof address === 'object' && address !== null ? address.port : 0)
  return {
    url: through.href,
    stall() {
      stalled = true
      for (const socket of sockets) socket.pause()
    },
    flow() {
      stalled = false
      for (const socket of sockets) socket.resume()
    },
    delay(ms) {
      delayMs = ms
    },
    lead(other) {
      target = new URL(other)
    },
    cut() {
      for (const socket of sockets) socket.resetAndDestroy()
    },
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
}

/** In order, also what is on its way when the delay becomes shorter. */
function carry(from: Socket, to: Socket, delayMs: () => number): void {
  const under: { chunk: Buffer; due: number }[] = []
  let waiting = false
  const deliver = () => {
    waiting = false
    for (let next = under[0]; next !== undefined; next = under[0]) {
      const leftMs = next.due - systemClock.elapsed()
      if (leftMs > 0) {
        waiting = true
        setTimeout(deliver, leftMs)
        return
      }
      under.shift()
      if (!to.destroyed) to.write(next.chunk)
    }
  }
  from.on('data', chunk => {
    const ms = delayMs()
    if (ms === 0 && under.length === 0) return void to.write(chunk)
    under.push({ chunk, due: systemClock.elapsed() + ms })
    if (!waiting) deliver()
  })
}
