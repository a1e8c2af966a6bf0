#!/usr/bin/env node
import { commands } from './commands/index.ts'
import { run } from './run.ts'

// `pawl help | head`: a reader that has seen enough is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(0)
})

// `exitCode`, not `exit()`: what was printed into a pipe must reach its reader first.
process.exitCode = await run(commands, process.argv.slice(2))
