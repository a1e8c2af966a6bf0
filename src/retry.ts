/** Milliseconds to wait before try `attempt` (1, 2, …): doubling from `firstMs` to `mostMs`, with jitter so that a fleet does not knock in step. */
export function backoffMs(attempt: number, firstMs: number, mostMs: number, random: () => number = Math.random): number {
  const ceiling = Math.min(mostMs, firstMs * 2 ** Math.min(attempt - 1, 30))
  return Math.round(ceiling / 2 + (ceiling / 2) * random())
}
