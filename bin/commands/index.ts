import type { Commands } from '../spec.ts'
import { askCommands } from '../specs/ask.ts'
import { keepCommands } from '../specs/keep.ts'
import { lookCommands } from '../specs/look.ts'
import { shellCommands } from '../specs/shell.ts'
import { steerCommands } from '../specs/steer.ts'
import { workCommands } from '../specs/work.ts'

/** The door's table: what can be asked of Pawl from a shell. A command's code is loaded when it is called, and no other's. */
export const commands: Commands = {
  ...workCommands,
  ...lookCommands,
  ...askCommands,
  ...steerCommands,
  ...keepCommands,
  ...shellCommands(() => commands),
}
