import { PawlRequestError, type Purpose, translate } from './errors.ts'

/** Whatever runs one statement with its values: a pg Pool, Client or PoolClient as it is, anything else by an adapter of one line. */
export type Queryable = {
  query(text: string, values: unknown[]): PromiseLike<{ rows: readonly object[] } | readonly object[]>
}

/** A drizzle database or transaction as a Queryable: `fromDrizzle(tx, sql)`, with `sql` from drizzle-orm. */
export function fromDrizzle<Statement>(
  session: { execute(statement: NoInfer<Statement>): PromiseLike<unknown> },
  sql: (strings: TemplateStringsArray, ...values: unknown[]) => Statement,
): Queryable {
  return {
    query(text, values) {
      // Our statements name each value once and in order, so that they are what a tagged template would have been.
      const parts = text.split(/\$\d+/)
      const statement = sql(Object.assign(parts, { raw: parts }), ...values)
      return session.execute(statement) as PromiseLike<{ rows: readonly object[] } | readonly object[]>
    },
  }
}

/** A value on its way to the server, with the type it is to have there. */
export type Argument = { type: string; value: string | null }

/** Calls a function of the contract; what it returns, as text. What is undefined is left out, and the function's own default counts. */
export function call(queryable: Queryable, purpose: Purpose, name: string, parameters: Record<string, Argument | undefined>): Promise<string | null> {
  const given = Object.entries(parameters).filter((entry): entry is [string, Argument] => entry[1] !== undefined)
  const list = given.map(([parameter, { type }], place) => `${parameter} => $${place + 1}::${type}`)
  return ask(
    queryable,
    purpose,
    `select pawl.${name}(${list.join(', ')})::text as answer`,
    given.map(([, { value }]) => value),
  )
}

/** The column `answer` of the first row; null when there is no row. It is always text: the types a caller's driver was taught don't matter. */
export async function ask(queryable: Queryable, purpose: Purpose, text: string, values: unknown[]): Promise<string | null> {
  let rows: readonly object[]
  try {
    const result = await queryable.query(text, values)
    rows = 'rows' in result ? result.rows : result
  } catch (error) {
    throw translate(error, purpose)
  }
  const [row] = rows as { answer?: string | null }[]
  return row?.answer ?? null
}

/** The answer of a function that never returns null. */
export function certain(answer: string | null): string {
  if (answer === null) throw new PawlRequestError('22004', 'the function returned null', { hint: 'is this database really one of Pawl?' })
  return answer
}
