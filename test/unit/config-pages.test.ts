import { describe, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { messageOf } from '../../src/errors.ts'

function refusalOf(env: Record<string, string>): string {
  try {
    readConfig(env)
  } catch (error) {
    return messageOf(error)
  }
  throw new Error('the environment was accepted')
}

describe('the pages', () => {
  const TOKEN = 'a secret of the team'.replaceAll(' ', '-')

  test('are off by default, and a port alone keeps them on this machine', () => {
    expect(readConfig({}).pages.port).toBeUndefined()
    expect(readConfig({ PAWL_PAGES_PORT: '0' }).pages).toEqual({ host: '127.0.0.1', port: 0, token: undefined })
    for (const host of ['localhost', '127.0.0.1', '127.1.2.3', '::1', '[::1]']) expect(readConfig({ PAWL_PAGES_HOST: host }).pages.host).toBe(host)
  })

  test('need a token where others can reach them, whether there is a port yet or not', () => {
    for (const host of ['0.0.0.0', '::', '10.0.0.7', 'pawl.example', '127.0.0.1.example', 'localhost.example']) {
      expect(refusalOf({ PAWL_PAGES_HOST: host })).toContain(`PAWL_PAGES_TOKEN: is needed where others can reach PAWL_PAGES_HOST=${host}`)
      expect(readConfig({ PAWL_PAGES_HOST: host, PAWL_PAGES_TOKEN: TOKEN }).pages).toEqual({ host, port: undefined, token: TOKEN })
    }
  })

  test('refuse a token that can be guessed or not be sent, without repeating it', () => {
    for (const token of ['short', 'fifteen-letters', 'sixteen letters with spaces', 'ünicode-is-not-for-headers']) {
      const message = refusalOf({ PAWL_PAGES_TOKEN: token })
      expect(message).toContain('PAWL_PAGES_TOKEN: must have 16 characters at least')
      expect(message).not.toContain(token)
    }
  })

  test('refuse a port that is none', () => {
    for (const port of ['65536', '-1', 'http']) expect(refusalOf({ PAWL_PAGES_PORT: port })).toContain('PAWL_PAGES_PORT')
  })
})
