#!/usr/bin/env node
import { commands } from './commands/index.ts'
import { run } from './run.ts'
import { exitCodes } from './terminal.ts'

// `pawl help | head`: a reader that has seen enough is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(0)
})

// `exitCode`, not `exit()`: what was printed into a pipe must reach its reader first.
process.exitCode = await run(commands, process.argv.slice(2))

// pg leaves a connection open whose login failed half way, until the server gives it up after a minute. Nobody is to wait for that.
if (process.exitCode !== exitCodes.ok) leaveSoon(1000)

function leaveSoon(ms: number): void {
  const leave = () => (process.stdout.writableLength + process.stderr.writableLength > 0 ? leaveSoon(100) : process.exit())
  setTimeout(leave, ms).unref()
}
