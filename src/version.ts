import packageJson from '../package.json' with { type: 'json' }

/** Pawl's version, as package.json has it. */
export const version: string = packageJson.version
