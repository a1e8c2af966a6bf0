import { PawlError } from '../../../src/errors.ts'
import { literal } from '../../../src/names.ts'

/** Puts the bounds of the window, as quoted literals, where a query has `{window_from}` and `{window_to}`, with or without quotes of its own. */
export function putWindow(query: string, window: { from: string; to: string } | undefined): string {
  return query.replace(/(['"]?)\{window_(from|to)\}\1/g, (_, _quote, side: 'from' | 'to') => {
    if (window === undefined) {
      throw new PawlError('refresh.window_missing', `the query has {window_${side}}, but the table is refreshed as a whole`, {
        hint: 'set the strategy of the table to window, or take the placeholder out of the query',
      })
    }
    return literal(window[side])
  })
}
