const meanings: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
  // A browser reads it as a line feed otherwise.
  '\r': '&#13;',
}

/** Text that a browser shows as it is, in an element or in a quoted attribute. */
export function escaped(text: string): string {
  // Most cells need nothing done, and looking is three times as fast as replacing.
  return /[&<>"'\r]/.test(text) ? text.replace(/[&<>"'\r]/g, character => meanings[character] ?? '') : text
}
