import { posix } from 'node:path'
import { parseAst } from 'rolldown/parseAst'

/** `to` is the file of the tree that is meant; undefined for a package of npm or of Node. */
export type Import = { specifier: string; to: string | undefined; typeOnly: boolean; line: number }

/** Something of the outside world that a file touches without an import: `process.env`, `Date.now`, `new Date()` … */
export type Use = { what: string; line: number }

/** A constant of type Worker or Task: what it gives as `queue`, undefined when that is no plain text. */
export type QueueName = { name: string | undefined; line: number }

/** What the rules of the house need to know of one file. */
export type Source = {
  path: string
  lines: number
  imports: Import[]
  /** Lines of dynamic imports whose module is computed. */
  unreadable: number[]
  uses: Use[]
  workers: QueueName[]
  /** Names in the list called `queues`, when the file has one. */
  queues: QueueName[] | undefined
}

type Node = { type: string; start: number; [key: string]: unknown }

const WATCHED = new Set(['process', 'Date', 'performance'])

/** Reads one file through its syntax tree: words in comments and strings count for nothing. */
export function readSource(path: string, text: string): Source {
  const source: Source = {
    path,
    lines: text.split('\n').length - (text.endsWith('\n') ? 1 : 0),
    imports: [],
    unreadable: [],
    uses: [],
    workers: [],
    queues: undefined,
  }
  const lineOf = (node: Node) => text.slice(0, node.start).split('\n').length
  const program = parseAst(text, { lang: 'ts' }, path) as unknown as Node
  visit(program, node => {
    const line = lineOf(node)
    for (const { specifier, typeOnly } of importsOf(node)) {
      if (specifier === undefined) source.unreadable.push(line)
      else source.imports.push({ specifier, to: specifier.startsWith('.') ? posix.join(posix.dirname(path), specifier) : undefined, typeOnly, line })
    }
    for (const what of usesOf(node)) source.uses.push({ what, line })
    if (node.type !== 'VariableDeclarator') return
    const init = node.init as Node | null
    if (['Worker', 'Task'].includes(String(typeNameOf(node.id as Node, init))) && objectOf(init) !== undefined)
      source.workers.push({ name: propertyOf(objectOf(init), 'queue'), line })
    if ((node.id as Node).name === 'queues' && init?.type === 'ArrayExpression') {
      source.queues = (init.elements as (Node | null)[]).flatMap(element =>
        element === null ? [] : [{ name: propertyOf(objectOf(element), 'name'), line: lineOf(element) }],
      )
    }
  })
  return source
}

function visit(value: unknown, look: (node: Node) => void): void {
  if (Array.isArray(value)) {
    for (const item of value) visit(item, look)
  } else if (typeof value === 'object' && value !== null) {
    if (typeof (value as Node).type === 'string') look(value as Node)
    for (const child of Object.values(value)) visit(child, look)
  }
}

function importsOf(node: Node): { specifier: string | undefined; typeOnly: boolean }[] {
  switch (node.type) {
    case 'ImportDeclaration':
    case 'ExportNamedDeclaration':
    case 'ExportAllDeclaration': {
      if (node.source === null) return []
      const parts = (node.specifiers ?? []) as Node[]
      const isType = (part: Node) => (part.importKind ?? part.exportKind) === 'type'
      return [{ specifier: textOf(node.source), typeOnly: isType(node) || (parts.length > 0 && parts.every(isType)) }]
    }
    case 'ImportExpression':
      return [{ specifier: textOf(node.source), typeOnly: false }]
    case 'TSImportType':
      return [{ specifier: textOf(node.source), typeOnly: true }]
    default:
      return []
  }
}

function usesOf(node: Node): string[] {
  if (node.type === 'NewExpression' && nameOf(node.callee) === 'Date' && (node.arguments as Node[]).length === 0) return ['new Date()']
  if (node.type === 'MemberExpression') {
    const owner = nameOf(node.object)
    const member = node.computed === true ? textOf(node.property) : (node.property as Node).name
    return owner !== undefined && WATCHED.has(owner) && typeof member === 'string' ? [`${owner}.${member}`] : []
  }
  // const { env } = process
  if (node.type === 'VariableDeclarator' && (node.id as Node).type === 'ObjectPattern') {
    const owner = nameOf(node.init)
    if (owner === undefined || !WATCHED.has(owner)) return []
    return ((node.id as Node).properties as Node[]).map(property => `${owner}.${String((property.key as Node | undefined)?.name)}`)
  }
  return []
}

/** `process` for `process` and for `globalThis.process`. */
function nameOf(value: unknown): string | undefined {
  const node = value as Node | null | undefined
  if (node?.type === 'Identifier') return node.name as string
  if (node?.type === 'MemberExpression' && nameOf(node.object) === 'globalThis') return (node.property as Node).name as string
  return undefined
}

function textOf(value: unknown): string | undefined {
  const node = value as Node
  return node.type === 'Literal' && typeof node.value === 'string' ? node.value : undefined
}

function typeNameOf(id: Node, init: Node | null): unknown {
  const annotation = (id.typeAnnotation as Node | null)?.typeAnnotation ?? (init?.type === 'TSSatisfiesExpression' ? init.typeAnnotation : undefined)
  return ((annotation as Node | undefined)?.typeName as Node | undefined)?.name
}

function objectOf(node: Node | null): Node | undefined {
  if (node?.type === 'TSSatisfiesExpression' || node?.type === 'TSAsExpression') return objectOf(node.expression as Node)
  return node?.type === 'ObjectExpression' ? node : undefined
}

function propertyOf(object: Node | undefined, key: string): string | undefined {
  const property = (object?.properties as Node[] | undefined)?.find(candidate => candidate.type === 'Property' && (candidate.key as Node).name === key)
  return property === undefined ? undefined : textOf(property.value)
}
