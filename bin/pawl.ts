#!/usr/bin/env node
import { commands } from './commands/index.ts'
import { run } from './run.ts'

// `exitCode`, not `exit()`: what was printed into a pipe must reach its reader first.
process.exitCode = await run(commands, process.argv.slice(2))
