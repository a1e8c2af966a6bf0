/** An identifier, quoted for SQL. */
export function quoted(identifier: string): string {
  return `"${identifier.replaceAll('"', '""')}"`
}

/** A value as a literal of SQL. */
export function literal(value: string): string {
  return `'${value.replaceAll("'", "''")}'`
}
