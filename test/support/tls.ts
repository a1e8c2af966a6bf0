import { connect, createServer, type Socket } from 'node:net'
import { TLSSocket } from 'node:tls'

/** Of a server that exists in tests only; self-signed, for localhost, until 2126. */
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgPnkeVM6HQSA9Z7Ac
71yTk4fAiDnqZvNuW7CeSuarERmhRANCAAS2NYECcRmjj+lzIKC9mlYx65PHsGbx
1Jg/3YsDlmXJqKu5CkyB0wxt5GR6HZD7b+00LUap661rwGKSYujXa/2a
-----END PRIVATE KEY-----
`

export const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUV0KzN3sPB1crcykvlv5CwbrYMl4wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTIxMjMzNloYDzIxMjYxMDI4
MjEyMzM2WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAS2NYECcRmjj+lzIKC9mlYx65PHsGbx1Jg/3YsDlmXJqKu5CkyB0wxt
5GR6HZD7b+00LUap661rwGKSYujXa/2ao28wbTAdBgNVHQ4EFgQUv6rRRNsf7sSU
YC233Q9H8HV1EKAwHwYDVR0jBBgwFoAUv6rRRNsf7sSUYC233Q9H8HV1EKAwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgKuAyFyz7sbI3rRm8v52kJpB9qJ1s31N4NpYt5Ur51qUCIQCF
z0O3z3j3+JytnVTcSMs/4LSKzOg4wwOjep+sUVqf/g==
-----END CERTIFICATE-----
`

export type TlsDoor = { port: number; sawPlainText(): boolean; close(): Promise<void> }

/** A door with TLS before a PostgreSQL that has none: answers the request for TLS and passes on what comes through it. */
export async function openTlsDoor(url: string): Promise<TlsDoor> {
  const { hostname, port } = new URL(url)
  const sockets = new Set<Socket>()
  let plain = false
  const server = createServer(socket => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.once('data', first => {
      // SSLRequest: its length, 8, and 80877103.
      if (first.length !== 8 || first.readInt32BE(4) !== 80_877_103) {
        plain = true
        return socket.destroy()
      }
      socket.write('S')
      const secure = new TLSSocket(socket, { isServer: true, key: KEY, cert: CERTIFICATE })
      const inner = connect(Number(port), hostname)
      sockets.add(inner)
      for (const end of [secure, inner]) end.on('error', () => {})
      secure.pipe(inner).pipe(secure)
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    sawPlainText: () => plain,
    close: () =>
      new Promise(resolve => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resolve())
      }),
  }
}
