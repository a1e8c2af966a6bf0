import { PawlRequestError } from './errors.ts'
import type { Argument } from './queryable.ts'

/** A bigint of the database. As a number, only while it is a safe integer. */
export type Id = number | bigint | string

/** Anything that JSON.stringify writes as an object. */
export type JsonObject = object

/** A Date, or text that PostgreSQL reads as a timestamptz: ISO 8601 with its offset, or '2026-03-01 09:00 Europe/Berlin'. */
export type Time = Date | string

/** A bigint; refuses numbers that may have lost digits already. */
export function bigint(name: string, value: Id): Argument {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) {
    throw new PawlRequestError('22023', `${name} must be a whole number that JavaScript holds exactly, not ${value}`, {
      hint: 'pass it as a bigint or as text',
    })
  }
  return { type: 'bigint', value: textOf(value) }
}

export function integer(value: number | undefined): Argument | undefined {
  return typed('integer', value)
}

export function boolean(value: boolean | undefined): Argument | undefined {
  return typed('boolean', value)
}

export function text(value: string | null | undefined): Argument | undefined {
  return typed('text', value)
}

export function uuid(value: string | undefined): Argument | undefined {
  return typed('uuid', value)
}

export function inet(value: string | null | undefined): Argument | undefined {
  return typed('inet', value)
}

/** A point in time, to the millisecond of a Date or as exact as the text is. */
export function time(name: string, value: Time | undefined): Argument | undefined {
  if (!(value instanceof Date)) return typed('timestamptz', value)
  if (Number.isNaN(value.getTime())) throw new PawlRequestError('22023', `${name} is no valid Date`, { hint: 'look at how it was made' })
  return { type: 'timestamptz', value: value.toISOString() }
}

/** A JSON object. */
export function json(name: string, value: JsonObject | null | undefined): Argument | undefined {
  if (value === undefined || value === null) return typed('jsonb', value)
  let written: string | undefined
  try {
    written = JSON.stringify(value)
  } catch (error) {
    throw new PawlRequestError('22023', `${name} can't be written as JSON: ${(error as Error).message}`, { cause: error })
  }
  if (written === undefined) throw new PawlRequestError('22023', `${name} must be an object, not a ${typeof value}`)
  return { type: 'jsonb', value: written }
}

function typed(type: string, value: string | number | boolean | null | undefined): Argument | undefined {
  return value === undefined ? undefined : { type, value: textOf(value) }
}

function textOf(value: string | number | bigint | boolean | null): string | null {
  // In JavaScript without types, a required id may be undefined: the server then says which one is null.
  return value === null || value === undefined ? null : String(value)
}
