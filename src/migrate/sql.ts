/** A statement as code: comments taken out, strings emptied and dollar-quoted text left out, so that no word in them is taken for SQL. */
export type SqlStatement = {
  code: string
  /** The line of the file it starts on, from 1. */
  line: number
  /** The comments before and inside it. */
  comments: string
  /** What a `do` block holds: the statements its control words lead to. Empty for anything else. */
  inner: SqlStatement[]
}

const TOKEN =
  /(?<comment>--[^\n]*|\/\*[\s\S]*?\*\/)|(?<string>\b[eE]'(?:[^'\\]|\\[\s\S]|'')*'|'(?:[^']|'')*')|(?<name>"(?:[^"]|"")*")|\$(?<tag>\w*)\$(?<body>[\s\S]*?)\$\k<tag>\$|(?<end>;)|[^]/g

/** What may follow a control word of plpgsql and be SQL. `select … into` and `perform` are in it, because they call functions. */
const LED_TO =
  /(?:^|\b(?:begin|then|else|loop)\s+)((?:alter|create|drop|truncate|lock|update|delete|insert|merge|refresh|reindex|cluster|execute|perform|select)\b[\s\S]*)$/i

/** The statements of a file, in order. Cut at semicolons as well as at drizzle's breakpoints; a function body is never cut. */
export function sqlStatements(text: string): SqlStatement[] {
  return scan(text).map(({ body, ...statement }) => ({
    ...statement,
    code: collapsed(statement.code),
    inner: /^do\b/i.test(statement.code) && body !== undefined ? innerStatements(body.text, body.line) : [],
  }))
}

type Scanned = Omit<SqlStatement, 'inner'> & { body: { text: string; line: number } | undefined }

/** `code` keeps its line ends, also those of what is left out of it. */
function scan(text: string): Scanned[] {
  const statements: Scanned[] = []
  let [code, comments, line, start] = ['', '', 1, 0]
  let body: Scanned['body']
  const flush = () => {
    if (code.trim() !== '') statements.push({ code: code.trim(), line: start, comments, body })
    ;[code, comments, body] = ['', '', undefined]
  }
  for (const match of text.matchAll(TOKEN)) {
    const [token] = match
    const found = match.groups ?? {}
    const ends = '\n'.repeat(token.split('\n').length - 1)
    if (found.comment?.startsWith('--> statement-breakpoint')) flush()
    else if (found.comment !== undefined) [code, comments] = [`${code} ${ends}`, `${comments}${token}\n`]
    else if (found.end !== undefined && !insideAtomic(code)) flush()
    else {
      if (code.trim() === '') start = line
      if (found.body !== undefined) body = { text: found.body, line }
      code += found.string !== undefined || found.body !== undefined ? `''${ends}` : token
    }
    line += ends.length
  }
  flush()
  return statements
}

const collapsed = (code: string) => code.trim().replace(/\s+/g, ' ')

/** `begin atomic … end` is the one body that is not quoted. */
function insideAtomic(code: string): boolean {
  return /^\s*create\s+(?:or\s+replace\s+)?(?:function|procedure)\b[\s\S]*\bbegin\s+atomic\b/i.test(code) && !/\bend\s*$/i.test(code)
}

function innerStatements(body: string, line: number): SqlStatement[] {
  return scan(body).flatMap(statement => {
    const led = LED_TO.exec(statement.code)?.[1]
    if (led === undefined) return []
    const skipped = statement.code.slice(0, -led.length).split('\n').length - 1
    return [{ code: collapsed(led), line: line + statement.line - 1 + skipped, comments: statement.comments, inner: [] }]
  })
}

/** The statements of a file with those inside `do` blocks in their place: what runs, as far as the text says. */
export function flatStatements(text: string): SqlStatement[] {
  return sqlStatements(text).flatMap(statement => [statement, ...statement.inner])
}

const PART = String.raw`(?:"(?:[^"]|"")+"|[a-zA-Z_][\w$]*)`

/** A name of a relation in a regular expression, one that captures nothing. */
export const NAME = String.raw`${PART}(?:\s*\.\s*${PART})?`

/** A name as PostgreSQL reads it, with its schema; files run with search_path = public. */
export function nameOf(written: string): string {
  const parts = [...written.matchAll(new RegExp(PART, 'g'))].map(([part]) => {
    const bare = part.startsWith('"') ? part.slice(1, -1) : part.toLowerCase()
    return /^[a-z_][a-z0-9_$]*$/.test(bare) ? bare : `"${bare}"`
  })
  return parts.length > 1 ? parts.join('.') : `public.${parts[0] ?? ''}`
}

/** Cuts at the commas that stand in no parentheses: the actions of an `alter table`, the names of a `drop`. */
export function commaParts(code: string): string[] {
  const parts = ['']
  let depth = 0
  for (const character of code) {
    if (character === '(' || character === '[') depth++
    if (character === ')' || character === ']') depth--
    if (character === ',' && depth === 0) parts.push('')
    else parts[parts.length - 1] += character
  }
  return parts.map(part => part.trim()).filter(part => part !== '')
}

/** The table and actions of an `alter table`, or undefined for any other statement. */
export function alterTable(code: string): { table: string; actions: string[] } | undefined {
  const [, table, rest] = new RegExp(String.raw`^alter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?(${NAME})\s*\*?\s+(.*)$`, 'is').exec(code) ?? []
  return table === undefined ? undefined : { table: nameOf(table), actions: commaParts(rest ?? '') }
}
