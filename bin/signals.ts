/**
 * Resolves with the name of the first SIGTERM, SIGINT or SIGHUP. A second one ends the process at once: someone who asks
 * twice means it, and whatever was in work is rescued like after a crash.
 */
export function shutdownSignal(): Promise<NodeJS.Signals> {
  return new Promise(resolve => {
    let asked = false
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      process.on(signal, () => {
        if (asked) process.exit(1)
        asked = true
        resolve(signal)
      })
    }
  })
}
