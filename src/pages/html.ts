const safe = Symbol('safe')

/** Markup that may be sent. Only `html` makes it, so that no row of a database can pass itself off as some. */
export type Html = { readonly [safe]: string }

/** What may be put into markup: text is escaped, markup is not, lists are joined, nothing is nothing. */
export type Part = Html | string | number | null | undefined | false | readonly Part[]

/** Markup with every value escaped, as text and inside quoted attributes alike. Attributes must be written with double quotes. */
export function html(texts: TemplateStringsArray, ...parts: Part[]): Html {
  return { [safe]: texts.map((text, place) => text + (place < parts.length ? written(parts[place]) : '')).join('') }
}

/** The markup itself, to be sent. */
export function textOf(markup: Html): string {
  return markup[safe]
}

/** No markup at all. */
export const nothing: Html = html``

function written(part: Part): string {
  if (part === null || part === undefined || part === false) return ''
  if (typeof part === 'string') return escaped(part)
  if (typeof part === 'number') return String(part)
  if (Array.isArray(part)) return part.map(written).join('')
  return safe in part ? part[safe] : ''
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;').replaceAll("'", '&#39;')
}
