import type { Commands, OptionSpec } from '../spec.ts'
import { choice, flag, from, identity, text, whole } from './values.ts'

const protection: Readonly<Record<string, OptionSpec>> = {
  backup: text('SCOPE', 'what is backed up before files that delete data: full (default), schema, or tables=public.a,public.b'),
  'no-backup': flag('take none, though there is a place for backups'),
}

/** Commands for the schema, backups, indexes and partitions. */
export const keepCommands: Commands = {
  migrate: {
    group: 'keep',
    summary: 'bring the schema up, back, check it against the files, or say beforehand what up would do',
    forms: [
      {
        verb: 'plan',
        summary: 'what up would do and lock; changes nothing',
        options: { sql: flag('with the statements') },
        examples: ['pawl migrate plan', 'pawl migrate plan --sql'],
      },
      {
        verb: 'up',
        summary: 'apply what is pending; safe from many replicas at once',
        options: protection,
        examples: ['pawl migrate up', 'pawl migrate up --backup schema'],
      },
      {
        verb: 'down',
        summary: 'take back the newest migrations',
        words: [{ name: 'N', kind: 'whole', least: 1, most: 10_000, optional: true, summary: 'how many (default 1)' }],
        options: { 'allow-data-loss': flag('though data is lost and no backup protects'), ...protection },
        examples: ['pawl migrate down', 'pawl migrate down 2 --allow-data-loss'],
      },
      { verb: 'status', summary: 'each file with its state', examples: ['pawl migrate status', 'pawl migrate status --json'] },
      {
        verb: 'verify',
        summary: 'whether the database is what the files say: 3 when not, 4 when it could not look',
        options: { accept: flag('it is right as it is: write that down') },
        examples: ['pawl migrate verify', 'pawl migrate verify --json'],
      },
    ],
    load: async () => (await import('../commands/migrate.ts')).migrate,
  },
  backup: {
    group: 'keep',
    summary: 'take a backup and prove it by a restore into a scratch database; --queue has a worker do it',
    forms: [
      {
        summary: 'take a backup',
        options: {
          kind: { ...choice('KIND', ['daily', 'weekly', 'manual', 'pre_migration'], 'which generation it belongs to'), default: 'manual' },
          'schema-only': flag('the structure without rows'),
          tables: { ...text('TABLES', 'only these tables'), multiple: true },
          'no-verify': flag('without the proof: it does not count'),
          queue: flag('have a worker take it, and follow that'),
        },
        examples: ['pawl backup', 'pawl backup --kind weekly --queue', 'pawl backup --tables public.campaigns,public.campaign_timers'],
      },
    ],
    load: async () => (await import('../commands/backup.ts')).backup,
  },
  backups: {
    group: 'keep',
    summary: 'what backups there are; --prune says what retention deletes and why; --verify proves one anew',
    forms: [
      {
        summary: 'backups in the store',
        options: {
          from,
          prune: flag('what retention deletes, and why'),
          apply: flag('with --prune: delete it'),
          verify: text('NAME', 'restore this one, or latest, and compare'),
          identity,
        },
        watch: true,
        examples: ['pawl backups', 'pawl backups --prune', 'pawl backups --verify latest --identity key.txt'],
      },
    ],
    load: async () => (await import('../commands/backups.ts')).backups,
  },
  restore: {
    group: 'keep',
    summary: 'restore a backup as a new database, its queues paused; --verify compares every table before it gets its name',
    forms: [
      {
        summary: 'restore a backup',
        words: [{ name: 'NAME', optional: true, summary: 'a backup; latest, the newest verified one, if none is named' }],
        options: {
          into: { ...text('DATABASE', 'the name of the new database'), required: true },
          verify: flag('compare every table'),
          identity,
          'no-owners': flag('all of it belongs to the login that restores'),
          from,
        },
        examples: ['pawl restore --into shop_before', 'pawl restore latest --into shop_before --verify --identity key.txt'],
      },
    ],
    load: async () => (await import('../commands/restore.ts')).restore,
  },
  optimize: {
    group: 'keep',
    summary: 'what indexes and statistics need; --apply does it, and never drops an index that works',
    forms: [
      {
        summary: 'the index report',
        options: { apply: flag('do what is safe while others work'), limit: { ...whole('statements at most', 1, 10_000), default: '10' } },
        examples: ['pawl optimize', 'pawl optimize --apply --limit 3'],
      },
    ],
    load: async () => (await import('../commands/optimize.ts')).optimize,
  },
  partitions: {
    group: 'keep',
    summary: 'months of every partitioned table; --ahead N makes the next, --archive takes out those that are kept no longer',
    forms: [
      {
        summary: 'months',
        options: { ahead: whole('make so many months ahead', 1, 60), archive: flag('archive what pawl.retention keeps no longer, and follow it') },
        role: 'pawl_observer',
        watch: true,
        examples: ['pawl partitions', 'pawl partitions --ahead 6', 'pawl partitions --archive'],
      },
    ],
    load: async () => (await import('../commands/partitions.ts')).partitions,
  },
}
