import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Tree } from './architecture.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** The project's own TypeScript, as it lies on the disk. */
export function readTree(): Tree {
  const paths = ['bin', 'workers', 'src', 'bench', 'test', 'client/src', 'examples'].flatMap(room =>
    readdirSync(join(root, room), { recursive: true, encoding: 'utf8' }).map(path => `${room}/${path}`),
  )
  return new Map(paths.filter(path => path.endsWith('.ts')).map(path => [path, readFileSync(join(root, path), 'utf8')]))
}
