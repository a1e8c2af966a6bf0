import type { Format } from './document.ts'

/** The formats of document 001. Each is loaded when the first report wants it: an idle worker carries none of their libraries. */
export const formats: Readonly<Record<string, () => Promise<Format>>> = {
  csv: async () => (await import('./formats/csv.ts')).csv,
  json: async () => (await import('./formats/json.ts')).json,
  html: async () => (await import('./formats/html.ts')).html,
  excel: async () => (await import('./formats/excel.ts')).excel,
  pdf: async () => (await import('./formats/pdf.ts')).pdf,
}
