import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

type Manifest = { license?: unknown; licenses?: { type?: unknown }[] }
type Locked = {
  version?: string
  license?: string
  dependencies?: Record<string, string>
  optionalDependencies?: Record<string, string>
  peerDependencies?: Record<string, string>
  hasInstallScript?: boolean
  resolved?: string
  integrity?: string
  link?: boolean
}

const root = join(import.meta.dirname, '../..')
const read = <Content>(path: string) => JSON.parse(readFileSync(join(root, path), 'utf8')) as Content
const own = read<{ dependencies: Record<string, string>; devDependencies: Record<string, string>; optionalDependencies: Record<string, string> }>(
  'package.json',
)
const locked = read<{ packages: Record<string, Locked> }>('package-lock.json').packages

/** Listed for tests, and loaded by a worker where somebody installs them: the image does. */
const lent = ['@google-cloud/bigquery', '@pg-boss/dashboard'].filter(name => name in own.devDependencies)

/** Whoever uses them owes a notice at the most. */
const allowed = new Set([
  'MIT',
  'ISC',
  '0BSD',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'Apache-2.0',
  'BlueOak-1.0.0',
  'CC0-1.0',
  'Unlicense',
  'Python-2.0',
  'PostgreSQL',
])

/** Where the package.json names none of them. Each was read. */
const readByHand: Record<string, string> = {
  // Bitstream Vera's licence: free to use, embed and pass on; not to be sold by itself.
  'dejavu-fonts-ttf': 'SEE LICENSE IN README.md AND LICENSE',
  // Its LICENSE file is MIT's text.
  'png-js': 'MIT',
}

/** All that a worker may load: what is named above, and what that needs, as npm finds it. */
function production(): Map<string, Locked> {
  const found = new Map<string, Locked>()
  const visit = (name: string, from: string) => {
    for (let folder = from; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('node_modules/') - 1))) {
      const path = `${folder === '' ? '' : `${folder}/`}node_modules/${name}`
      const entry = locked[path]
      if (entry !== undefined) {
        if (found.has(path)) return
        found.set(path, entry)
        for (const needed of Object.keys({ ...entry.dependencies, ...entry.optionalDependencies })) visit(needed, path)
        return
      }
      if (folder === '') return
    }
  }
  for (const name of [...Object.keys(own.dependencies), ...Object.keys(own.optionalDependencies), ...lent]) visit(name, '')
  return found
}

function licenceOf(path: string, entry: Locked): string {
  const manifest = join(path, 'package.json')
  // What is for another machine is not here; its lock says what it is under.
  const { license, licenses }: Manifest = existsSync(join(root, manifest)) ? read<Manifest>(manifest) : {}
  const said: unknown = license ?? licenses?.[0]?.type ?? entry.license
  if (typeof said === 'string') return said
  return typeof said === 'object' && said !== null && 'type' in said && typeof said.type === 'string' ? said.type : 'none'
}

const isAllowed = (expression: string) =>
  expression
    .replace(/[()]/g, '')
    .split(' OR ')
    .some(choice => choice.split(' AND ').every(part => allowed.has(part.trim())))

test('all that a worker loads may be used, changed and passed on by anyone', () => {
  const packages = production()
  expect(packages.size).toBeGreaterThan(80)
  const doubtful = [...packages].flatMap(([path, entry]) => {
    const name = path.slice(path.lastIndexOf('node_modules/') + 13)
    const licence = licenceOf(path, entry)
    return isAllowed(licence) || (name in readByHand && (licence === 'none' || licence === readByHand[name])) ? [] : [`${path}: ${licence}`]
  })
  expect(doubtful).toEqual([])
})

test('each comes from a registry, with a hash that npm checks', () => {
  // An address in the lock file would be that of a git repository, a tarball or somebody's mirror.
  const loose = [...production()].filter(
    ([, { resolved, integrity, link }]) => link === true || integrity?.startsWith('sha512-') !== true || resolved !== undefined,
  )
  expect(loose.map(([path]) => path)).toEqual([])
})

test('each of ours is named with its exact version', () => {
  const versions = Object.entries({ ...own.dependencies, ...own.devDependencies, ...own.optionalDependencies })
  expect(versions.filter(([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version))).toEqual([])
})
