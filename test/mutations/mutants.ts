import { domains } from './domains.ts'
import { engine } from './engine.ts'
import { keeping } from './keeping.ts'
import type { Mutant } from './mutant.ts'

/** Every planted bug. `npm run test:mutations` plants them one at a time, in a copy, and a test must notice each. */
export const mutants: readonly Mutant[] = [...engine, ...domains, ...keeping]
