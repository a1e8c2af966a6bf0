import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { commands } from '../../bin/commands/index.ts'
import { scriptFor } from '../../bin/completion.ts'
import { everywhere, optionsOf } from '../../bin/spec.ts'

/** What bash itself offers behind these words; an empty last one is a space and nothing. `pawl` answers with two runs. */
function offered(...lines: string[][]): string[][] {
  const asked = lines.map(
    words => `COMP_WORDS=(pawl ${words.map(word => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}; COMPREPLY=(); _pawl; echo "\${COMPREPLY[*]}"`,
  )
  const script = `pawl() { echo ovr_1; echo ovr_2; echo refresh:1:a.b; }; timeout() { shift; "$@"; }; ${scriptFor('bash', commands)}\n${asked.join('\n')}`
  const { status, stdout, stderr } = spawnSync('bash', ['--norc', '-c', script], { encoding: 'utf8' })
  expect([status, stderr]).toEqual([0, ''])
  return stdout
    .trimEnd()
    .split('\n')
    .map(line => line.split(' ').filter(word => word !== ''))
}

const optionNames = (name: string, place = 0) => Object.keys(optionsOf(commands[name]?.forms[place] as never)).map(option => `--${option}`)

test('bash completes every command, its verbs, its options and the values that are known', () => {
  const names = Object.keys(commands)
  const withVerbs = names.filter(name => commands[name]?.forms.some(form => form.verb !== undefined))
  const [first, ...rest] = offered([''], ...names.map(name => [name, '--']), ...withVerbs.map(name => [name, '']))
  expect(first).toEqual([...names, 'help', 'version'])
  for (const [place, name] of names.entries()) {
    const plain = commands[name]?.forms.findIndex(form => form.verb === undefined) ?? -1
    expect(rest[place], name).toEqual(plain === -1 ? Object.keys(everywhere).map(option => `--${option}`) : optionNames(name, plain))
  }
  for (const [place, name] of withVerbs.entries()) {
    expect(rest[names.length + place]).toEqual(expect.arrayContaining(commands[name]?.forms.flatMap(form => form.verb ?? []) ?? []))
  }
})

test('bash completes what is begun, and knows where in the line it is', () => {
  const lines: [string[], string[]][] = [
    [['sta'], ['status']],
    [
      ['campaign', 'create', '--no-'],
      ['--no-close', '--no-rewards'],
    ],
    [['campaign', 'create', '--hours', '3', '--m'], ['--metadata']],
    [
      ['campaign', 'schedule', 'x', ''],
      ['START_CAMPAIGN', 'CLOSE_CAMPAIGN', 'EXPIRE_CAMPAIGN', 'REWARD_REMINDER'],
    ],
    [['campaign', 'schedule', 'x', 'CLOSE_CAMPAIGN', ''], []],
    [
      ['refresh', 'graph', '--format', ''],
      ['text', 'mermaid', 'svg'],
    ],
    // As bash takes --format=m apart.
    [['refresh', 'graph', '--format', '=', 'm'], ['mermaid']],
    [
      ['refresh', 'graph', '--format', '='],
      ['text', 'mermaid', 'svg'],
    ],
    [['refresh', 'graph', '--format', 'svg', '--j'], ['--json']],
    [
      ['status', '--watch', ''],
      ['ovr_1', 'ovr_2'],
    ],
    [
      ['cancel', 'ovr_'],
      ['ovr_1', 'ovr_2'],
    ],
    [['cancel', 'ovr_1', ''], []],
    [['cancel', '--reason', ''], []],
    [['pause', 'campaigns.'], ['campaigns.fire']],
    [['help', 'campaign', 'c'], ['create']],
    [
      ['completion', ''],
      ['bash', 'zsh', 'fish'],
    ],
    [['nonsense', ''], []],
  ]
  const answers = offered(...lines.map(([words]) => words))
  for (const [place, [words, wanted]] of lines.entries()) expect(answers[place] ?? [], words.join(' ')).toEqual(wanted)
})

test('bash completes files where a file is wanted', () => {
  expect(offered(['report', 'get', 'x', '--to', 'package.js'])).toEqual([['package.json']])
})

for (const [shell, debian] of [
  ['bash', 'bash'],
  ['zsh', 'zsh'],
  ['fish', 'fish'],
] as const) {
  const missing = spawnSync(shell, ['-c', 'true']).error !== undefined
  if (missing) console.warn(`${shell} is not installed, so its completion is not read by it: apt-get install ${debian}`)
  test.skipIf(missing)(`${shell} reads the script that is made for it without complaint`, () => {
    const folder = mkdtempSync(join(tmpdir(), 'pawl-completion-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    writeFileSync(join(folder, 'script'), scriptFor(shell, commands))
    const read = spawnSync(shell, ['-n', join(folder, 'script')], { encoding: 'utf8' })
    expect([read.status, read.stderr]).toEqual([0, ''])
  })
}
