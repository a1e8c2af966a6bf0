/** The words of a line as a shell takes them apart: single and double quotes, no variables. */
export function shellWords(line: string): string[] {
  return [...line.matchAll(/((?:'[^']*'|"[^"]*"|[^\s'"])+)/g)].map(([word]) => word.replaceAll(/'([^']*)'|"([^"]*)"/g, (_, single, double) => single ?? double))
}
