import { inspect } from '../test/support/architecture.ts'
import { readTree } from '../test/support/tree.ts'

// The rules of docs/architecture.md, on the files as they are; test/unit/architecture.test.ts shows that each rule can fail.
const breaches = inspect(readTree())
for (const { file, line, message } of breaches) process.stdout.write(`${file}:${line}  ${message}\n`)
process.exitCode = breaches.length === 0 ? 0 : 1
