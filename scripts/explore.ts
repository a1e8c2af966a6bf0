import { parseArgs } from 'node:util'
import { replay } from '../test/explorer/chooser.ts'
import { explore, type House, openHouse, type Tally } from '../test/explorer/house.ts'
import { type Mutation, mutations } from '../test/explorer/mutations.ts'
import { type Played, play } from '../test/explorer/play.ts'
import type { Scenario } from '../test/explorer/scenario.ts'
import { scenarios } from '../test/explorer/scenarios/index.ts'
import { shrink } from '../test/explorer/shrink.ts'
import setup from '../test/support/global.ts'

const USAGE = `npm run test:explorer -- [--scenario NAME] [--seed N] [--schedules N] [--lanes N] [--mutation NAME] [--trace] [--choices JSON]

Plays schedules: who of several workers goes on is decided at every statement, by a seed. Without words: 10,000 over all scenarios.
--trace plays one seed (or the given --choices) and prints each statement; --mutation plants a defect, which must be found.

scenarios:
${scenarios.map(({ name, about }) => `  ${name.padEnd(10)} ${about}`).join('\n')}
mutations:
${Object.entries(mutations)
  .map(([name, { about, scenario }]) => `  ${name.padEnd(10)} ${about} (${scenario})`)
  .join('\n')}
`

const { values } = parseArgs({
  options: {
    scenario: { type: 'string' },
    seed: { type: 'string', default: '1' },
    schedules: { type: 'string' },
    lanes: { type: 'string', default: '6' },
    mutation: { type: 'string' },
    choices: { type: 'string' },
    trace: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

/** Schedules of a run without words. */
const ALL = 10_000
/** Violations of a scenario after which its other seeds need not be played. */
const ENOUGH = 3
/** Seeds in which a planted defect must be found. */
const MUTANT_SEEDS = 100

const say = (text: string) => void process.stdout.write(`${text}\n`)

function chosen(): { wanted: Scenario[]; mutation: Mutation | undefined } {
  const known = values.mutation === undefined || values.mutation in mutations
  const mutation = known ? (values.mutation as Mutation | undefined) : undefined
  const name = values.scenario ?? (mutation === undefined ? undefined : mutations[mutation].scenario)
  const wanted = scenarios.filter(scenario => name === undefined || scenario.name === name)
  if (values.help || !known || wanted.length === 0) {
    say(USAGE)
    process.exit(values.help ? 0 : 2)
  }
  return { wanted, mutation }
}

function line({ scenario, schedules, statements, waits, deadlocks, violations, seconds }: Tally): string {
  const cells = [schedules, statements, waits, deadlocks, violations.length].map(cell => cell.toLocaleString('en').padStart(11))
  return `${scenario.padEnd(10)}${cells.join('')}${seconds.toFixed(0).padStart(8)} s`
}

async function tell(house: House, scenario: Scenario, found: Played): Promise<void> {
  say(`\n${scenario.name}, seed ${found.seed}:\n  ${found.violations.slice(0, 6).join('\n  ')}`)
  const [lane] = house.lanes
  const least = lane === undefined ? undefined : await shrink(lane, scenario, found)
  const shown = least ?? found
  say(least === undefined ? '  the same choices did not go wrong a second time; as it was played:' : `  the least of it, ${least.choices.length} choices:`)
  say(withoutWaiting(shown.trace).join('\n'))
  say(`  again: npm run test:explorer -- --scenario ${scenario.name} --seed ${found.seed} --trace --choices '${JSON.stringify(shown.choices)}'`)
}

/** On a terminal's other channel, so that what is kept of the output is the table. */
function progress(each: number): (tally: Tally) => void {
  return ({ scenario, schedules, violations, seconds }) => {
    if (schedules % 100 === 0) process.stderr.write(`${scenario}: ${schedules} of ${each}, ${violations.length} violations, ${seconds.toFixed(0)} s\n`)
  }
}

/** Once time passes, those who find nothing to do say nothing. */
function withoutWaiting(trace: readonly string[]): string[] {
  const end = trace.findIndex(line => line.includes('TIME PASSES'))
  return trace.filter((line, place) => end === -1 || place < end || !/: (idle|sleep|claim a job|select \* from pawl\.beat)/.test(line))
}

async function trace(house: House, wanted: readonly Scenario[]): Promise<number> {
  const [lane] = house.lanes
  const [scenario] = wanted
  if (lane === undefined || scenario === undefined) return 2
  const chooser = values.choices === undefined ? undefined : replay(JSON.parse(values.choices) as string[])
  const played = await play(lane, scenario, Number(values.seed), chooser)
  say([...played.trace, ...played.violations.map(violation => `VIOLATION ${violation}`)].join('\n'))
  say(`choices: ${JSON.stringify(played.choices)}`)
  return played.violations.length === 0 ? 0 : 1
}

async function run(house: House, wanted: readonly Scenario[], mutation: Mutation | undefined): Promise<number> {
  const each = Number(values.schedules ?? (mutation === undefined ? Math.ceil(ALL / wanted.length) : MUTANT_SEEDS))
  say(`scenario    schedules statements lock waits  deadlocks violations    time`)
  const tallies: Tally[] = []
  for (const scenario of wanted) {
    const tally = await explore(house, scenario, Number(values.seed), each, mutation === undefined ? ENOUGH : 1, progress(each))
    say(line(tally))
    tallies.push(tally)
    for (const found of tally.violations.slice(0, 1)) await tell(house, scenario, found)
  }
  const sum = (what: (tally: Tally) => number) => tallies.reduce((total, tally) => total + what(tally), 0)
  const violations = tallies.flatMap(tally => tally.violations)
  const seconds = sum(tally => tally.seconds)
  say(
    line({
      scenario: 'all',
      schedules: sum(t => t.schedules),
      statements: sum(t => t.statements),
      waits: sum(t => t.waits),
      deadlocks: sum(t => t.deadlocks),
      violations,
      seconds,
    }),
  )
  return violations.length === 0 ? 0 : 1
}

const { wanted, mutation } = chosen()
const provided = { adminUrl: '', template: '' }
const teardown = await setup({ provide: (name: 'adminUrl' | 'template', value: string) => void (provided[name] = value) } as never)
const house = await openHouse(provided, wanted, values.trace ? 1 : Number(values.lanes), mutation)
const code = values.trace ? await trace(house, wanted) : await run(house, wanted, mutation)
await house.close()
await teardown()
// Actors that were killed in a schedule wait for ever for their next statement, and their timers with them.
process.exit(code)
