import type { Commands } from '../spec.ts'

/** Commands that print what a shell needs; `all` is the table they are part of. */
export function shellCommands(all: () => Commands): Commands {
  return {
    completion: {
      group: 'shell',
      summary: 'print the completion of commands, options and values for a shell',
      forms: [
        {
          summary: 'print the script',
          words: [{ name: 'SHELL', choices: ['bash', 'zsh', 'fish'], summary: 'the shell that reads it' }],
          examples: ['pawl completion bash', 'pawl completion zsh', 'pawl completion fish'],
        },
      ],
      load: async () => (await import('../commands/completion.ts')).completion(all()),
    },
  }
}
