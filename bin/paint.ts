import { styleText } from 'node:util'

/**
 * A word in colour, where `color` says so. The caller has asked the terminal; styleText would ask once more, and of stdout, and
 * paint nothing where CI is set.
 */
export function paint(color: boolean, format: 'gray' | 'cyan' | 'green' | 'red' | 'yellow', word: string): string {
  return color ? styleText(format, word, { validateStream: false }) : word
}
