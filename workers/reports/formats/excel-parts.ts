import type { Head } from '../document.ts'
import { xmlText } from './excel-cells.ts'

const DECLARATION = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
const MAIN = 'http://schemas.openxmlformats.org/spreadsheetml/2006/main'
const PACKAGE = 'http://schemas.openxmlformats.org/package/2006'
const OFFICE = 'http://schemas.openxmlformats.org/officeDocument/2006'
const TYPES = 'application/vnd.openxmlformats-officedocument'

/** A sheet that has been written; `range` is what its filter covers, null where it has no columns. */
export type Sheet = { name: string; range: string | null }

/** The parts that don't depend on the data. Sheets have no entry of their own: they are what a part is by default, so this can come first. */
export function openingParts(head: Head): [path: string, text: string][] {
  return [
    ['[Content_Types].xml', contentTypes()],
    ['_rels/.rels', packageRelations()],
    ['docProps/core.xml', coreProperties(head)],
    ['docProps/app.xml', appProperties(head)],
    ['xl/styles.xml', styles()],
  ]
}

/** The parts that name the sheets. */
export function closingParts(sheets: readonly Sheet[]): [path: string, text: string][] {
  return [
    ['xl/workbook.xml', workbook(sheets)],
    ['xl/_rels/workbook.xml.rels', workbookRelations(sheets)],
  ]
}

/** Where the sheet of that number, from 1, is in the file. */
export function sheetPath(number: number): string {
  return `xl/worksheets/sheet${number}.xml`
}

/** All of a sheet before its rows: the first row stays in sight. */
export function sheetOpening(widths: readonly number[], first: boolean): string {
  const columns = widths.map((width, index) => `<col min="${index + 1}" max="${index + 1}" width="${width}" customWidth="1"/>`).join('')
  const pane = '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/><selection pane="bottomLeft" activeCell="A2" sqref="A2"/>'
  const view = `<sheetViews><sheetView${first ? ' tabSelected="1"' : ''} workbookViewId="0">${pane}</sheetView></sheetViews>`
  return `${DECLARATION}<worksheet xmlns="${MAIN}">${view}<sheetFormatPr defaultRowHeight="15"/>${columns === '' ? '' : `<cols>${columns}</cols>`}<sheetData>`
}

/** All of a sheet after its rows. */
export function sheetClosing(range: string | null): string {
  return `</sheetData>${range === null ? '' : `<autoFilter ref="${range}"/>`}</worksheet>`
}

function contentTypes(): string {
  const parts = [
    ['/xl/workbook.xml', `${TYPES}.spreadsheetml.sheet.main+xml`],
    ['/xl/styles.xml', `${TYPES}.spreadsheetml.styles+xml`],
    ['/docProps/core.xml', 'application/vnd.openxmlformats-package.core-properties+xml'],
    ['/docProps/app.xml', `${TYPES}.extended-properties+xml`],
  ]
  const overrides = parts.map(([name, type]) => `<Override PartName="${name}" ContentType="${type}"/>`).join('')
  const relations = '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
  const sheets = `<Default Extension="xml" ContentType="${TYPES}.spreadsheetml.worksheet+xml"/>`
  return `${DECLARATION}<Types xmlns="${PACKAGE}/content-types">${relations}${sheets}${overrides}</Types>`
}

function packageRelations(): string {
  return relationships([
    [`${OFFICE}/relationships/officeDocument`, 'xl/workbook.xml'],
    [`${PACKAGE}/relationships/metadata/core-properties`, 'docProps/core.xml'],
    [`${OFFICE}/relationships/extended-properties`, 'docProps/app.xml'],
  ])
}

function workbookRelations(sheets: readonly Sheet[]): string {
  const toSheets = sheets.map((_, index): [string, string] => [`${OFFICE}/relationships/worksheet`, `worksheets/sheet${index + 1}.xml`])
  return relationships([...toSheets, [`${OFFICE}/relationships/styles`, 'styles.xml']])
}

function relationships(targets: readonly [type: string, target: string][]): string {
  const each = targets.map(([type, target], index) => `<Relationship Id="rId${index + 1}" Type="${type}" Target="${target}"/>`)
  return `${DECLARATION}<Relationships xmlns="${PACKAGE}/relationships">${each.join('')}</Relationships>`
}

function workbook(sheets: readonly Sheet[]): string {
  const each = sheets.map(({ name }, index) => `<sheet name="${xmlText(name)}" sheetId="${index + 1}" r:id="rId${index + 1}"/>`).join('')
  // Excel finds the filter of a sheet by this hidden name too.
  const filters = sheets.flatMap(({ name, range }, index) => {
    if (range === null) return []
    const place = `'${name.replaceAll("'", "''")}'!${range.replace(/[A-Z]+|\d+/g, part => `$${part}`)}`
    return [`<definedName name="_xlnm._FilterDatabase" localSheetId="${index}" hidden="1">${xmlText(place)}</definedName>`]
  })
  const names = filters.length === 0 ? '' : `<definedNames>${filters.join('')}</definedNames>`
  const views = '<bookViews><workbookView activeTab="0"/></bookViews>'
  return `${DECLARATION}<workbook xmlns="${MAIN}" xmlns:r="${OFFICE}/relationships">${views}<sheets>${each}</sheets>${names}</workbook>`
}

/** In the order of `style` in excel-cells.ts. */
function styles(): string {
  const looks = [
    '<xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>',
    '<xf numFmtId="0" fontId="1" fillId="0" borderId="0" xfId="0" applyFont="1"/>',
    '<xf numFmtId="164" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>',
    '<xf numFmtId="165" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>',
    '<xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0" quotePrefix="1"/>',
    '<xf numFmtId="0" fontId="1" fillId="0" borderId="0" xfId="0" quotePrefix="1" applyFont="1"/>',
  ]
  const formats = ['yyyy\\-mm\\-dd', 'yyyy\\-mm\\-dd\\ hh:mm:ss'].map((code, index) => `<numFmt numFmtId="${164 + index}" formatCode="${code}"/>`)
  const face = '<sz val="11"/><name val="Calibri"/><family val="2"/>'
  const fills = '<fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill>'
  return [
    `${DECLARATION}<styleSheet xmlns="${MAIN}"><numFmts count="2">${formats.join('')}</numFmts>`,
    `<fonts count="2"><font>${face}</font><font><b/>${face}</font></fonts><fills count="2">${fills}</fills>`,
    '<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>',
    '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>',
    `<cellXfs count="${looks.length}">${looks.join('')}</cellXfs>`,
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>',
  ].join('')
}

function coreProperties({ title, description, organization, generatedAt }: Head): string {
  const spaces = [
    `xmlns:cp="${PACKAGE}/metadata/core-properties"`,
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/"',
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"',
  ].join(' ')
  const about = description === null ? '' : `<dc:description>${xmlText(description)}</dc:description>`
  const made = `<dcterms:created xsi:type="dcterms:W3CDTF">${new Date(generatedAt).toISOString()}</dcterms:created>`
  const told = `<dc:title>${xmlText(title)}</dc:title><dc:creator>${xmlText(organization)}</dc:creator>${about}${made}`
  return `${DECLARATION}<cp:coreProperties ${spaces}>${told}</cp:coreProperties>`
}

function appProperties({ organization }: Head): string {
  const company = `<Company>${xmlText(organization)}</Company>`
  return `${DECLARATION}<Properties xmlns="${OFFICE}/extended-properties"><Application>Pawl</Application>${company}</Properties>`
}
