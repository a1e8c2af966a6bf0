import type { Column, ColumnKind, Head, Row } from '../document.ts'
import { countedRows, shownInstant, shownValue } from './draw-value.ts'
import { style } from './html-style.ts'
import { escaped } from './html-text.ts'

/** What comes before the first block. No script runs and nothing is fetched, whatever the data holds. */
export function pageHead(head: Head): string {
  const description = head.description === null ? '' : paragraphs(head.description)
  const parameters = head.parameters.map(one => `<div><dt>${escaped(one.label)}</dt><dd>${escaped(one.value)}</dd></div>`).join('')
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(head.title)}</title>
<style>${style}</style>
</head>
<body>
<header>
<h1>${escaped(head.title)}</h1>
${description}<p class="origin">${escaped(head.organization)} · <time datetime="${escaped(head.generatedAt)}">${escaped(shownInstant(head.generatedAt))}</time></p>
${parameters === '' ? '' : `<dl class="parameters">${parameters}</dl>\n`}</header>
<main>
`
}

/** What comes after the last block. */
export const pageEnd = '</main>\n</body>\n</html>\n'

/** The beginning of a block, with its title where it has one. */
export function sectionHead(title: string | null): string {
  return `<section>\n${title === null ? '' : `<h2>${escaped(title)}</h2>\n`}`
}

/** The end of a block. */
export const sectionEnd = '</section>\n'

/** Text, a paragraph wherever a line is empty. */
export function paragraphs(text: string): string {
  return text
    .split(/\n\s*\n/)
    .filter(part => part.trim() !== '')
    .map(part => `<p>${escaped(part.trim())}</p>\n`)
    .join('')
}

/** Figures, a card each. */
export function cards(columns: readonly Column[], row: Row | undefined): string {
  const card = (column: Column, place: number) => {
    const value = row?.[place] ?? null
    const shown = value === null ? '–' : shownValue(value, column.kind)
    return `<div><dt>${escaped(column.label)}</dt><dd${shown.length > 13 ? ' class="long"' : ''}>${escaped(shown)}</dd></div>`
  }
  return `<dl class="cards">${columns.map(card).join('')}</dl>\n`
}

/** The beginning of a table, up to its first row. */
export function tableHead(columns: readonly Column[]): string {
  const heads = columns.map(column => `<th scope="col"${column.kind === 'number' ? ' class="number"' : ''}>${escaped(column.label)}</th>`)
  return `<div class="scroll"><table>\n<thead><tr>${heads.join('')}</tr></thead>\n<tbody>\n`
}

/** The end of a table, and how many rows it had. */
export function tableEnd(rows: number): string {
  return `</tbody>\n</table></div>\n<p class="count">${countedRows(rows)}</p>\n`
}

const opening: Readonly<Record<ColumnKind, string>> = {
  text: '<td>',
  json: '<td>',
  boolean: '<td>',
  number: '<td class="number">',
  date: '<td class="moment">',
  timestamp: '<td class="moment">',
}

/** A row of a table with these columns. */
export function tableRow(columns: readonly Column[], row: Row): string {
  let text = '<tr>'
  // The only loop that a long table spends its time in.
  for (let place = 0; place < columns.length; place++) {
    const kind = columns[place]?.kind ?? 'text'
    text += `${opening[kind]}${escaped(shownValue(row[place] ?? null, kind))}</td>`
  }
  return `${text}</tr>\n`
}
