import { scriptFor } from '../completion.ts'
import type { Commands, Run } from '../spec.ts'
import { answer, exitCodes } from '../terminal.ts'

/** `pawl completion SHELL`: the script, made from the table of commands. */
export function completion(commands: Commands): Run {
  return async (terminal, _values, [shell = '']) => {
    const script = scriptFor(shell, commands)
    answer(terminal, { shell, script }, script.trimEnd())
    return exitCodes.ok
  }
}
