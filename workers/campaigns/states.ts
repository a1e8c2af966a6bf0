/** The life of a campaign (document 002): pure tables, equal to the database's trigger and to `pawl.timer_effects`. */
export const states = ['CREATED', 'RUNNING', 'CLOSED', 'REWARD_CLAIM', 'EXPIRED'] as const
export type State = (typeof states)[number]

export const timerTypes = ['START_CAMPAIGN', 'CLOSE_CAMPAIGN', 'EXPIRE_CAMPAIGN', 'REWARD_REMINDER'] as const
export type TimerType = (typeof timerTypes)[number]

/** Where a campaign may go from each state; every other change is refused. */
export const transitions: Readonly<Record<State, readonly State[]>> = {
  CREATED: ['RUNNING'],
  RUNNING: ['CLOSED', 'EXPIRED'],
  CLOSED: ['REWARD_CLAIM', 'EXPIRED'],
  REWARD_CLAIM: ['EXPIRED'],
  EXPIRED: [],
}

/** A state to go to; `event`: tell of it and change nothing; `none`: the campaign is past that; `refused`: it can never be. */
export type Effect = State | 'event' | 'none' | 'refused'

export const effects: Readonly<Record<TimerType, Readonly<Record<State, Effect>>>> = {
  START_CAMPAIGN: { CREATED: 'RUNNING', RUNNING: 'none', CLOSED: 'none', REWARD_CLAIM: 'none', EXPIRED: 'none' },
  CLOSE_CAMPAIGN: { CREATED: 'refused', RUNNING: 'CLOSED', CLOSED: 'none', REWARD_CLAIM: 'none', EXPIRED: 'none' },
  EXPIRE_CAMPAIGN: { CREATED: 'refused', RUNNING: 'EXPIRED', CLOSED: 'EXPIRED', REWARD_CLAIM: 'EXPIRED', EXPIRED: 'none' },
  REWARD_REMINDER: { CREATED: 'event', RUNNING: 'event', CLOSED: 'event', REWARD_CLAIM: 'event', EXPIRED: 'none' },
}

/** The states a campaign goes through when the timer fires: none, one, or with rewards CLOSED and REWARD_CLAIM at once. */
export function pathOf(timer: TimerType, from: State, rewardsEnabled: boolean): readonly State[] {
  const effect = effects[timer][from]
  if (effect === 'event' || effect === 'none' || effect === 'refused') return []
  return timer === 'CLOSE_CAMPAIGN' && rewardsEnabled ? [effect, 'REWARD_CLAIM'] : [effect]
}

/** Whether `text` names a timer type. */
export function isTimerType(text: string): text is TimerType {
  return (timerTypes as readonly string[]).includes(text)
}
