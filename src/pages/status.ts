import { version } from '../version.ts'
import { page } from './frame.ts'
import { graphSection } from './graph.ts'
import { backupsSection, healthSection, queuesSection, workersSection } from './health.ts'
import { type Html, html } from './html.ts'
import { failuresSection, runsSection } from './runs.ts'
import { type Snapshot, UNFINISHED_MAX } from './snapshot.ts'
import { timersSection } from './timeline.ts'
import { count, duration } from './words.ts'

/** The page at `/`: everything of a snapshot. */
export function statusPage(snapshot: Snapshot, leave: boolean): string {
  const { now, database, server } = snapshot
  const troubles = snapshot.health.filter(check => !check.ok)
  const verdict = troubles.length === 0 ? 'All is well' : `${troubles.length} ${troubles.length === 1 ? 'check needs' : 'checks need'} a person`
  return page({
    title: `${troubles.length === 0 ? '' : `(${troubles.length}) `}${database} · Pawl`,
    live: true,
    leave,
    main: html`
<h1>${verdict}</h1>
<p class="lead">Database <strong>${database}</strong>, as of <time datetime="${now.toISOString()}">${now.toISOString().slice(0, 19).replace('T', ' ')} UTC</time>. ${
      troubles.length > 0 && html`Look at: <a href="#health">${troubles.map(check => check.check).join(', ')}</a>.`
    }</p>
${tiles(snapshot)}
${section('runs', 'Runs', runsSection(snapshot.runs, now))}
${section('failures', 'Failures', failuresSection(snapshot.failures, now))}
${section('tables', 'Refreshed tables', graphSection(snapshot.tables, snapshot.edges, now))}
${section('timers', 'Timers', timersSection(snapshot.timers, now))}
<div class="two">
${section('backups', 'Backups', backupsSection(snapshot.backups, now))}
<div>
${section('workers', 'Workers', workersSection(snapshot.workers, now))}
${section('queues', 'Queues', queuesSection(snapshot.queues))}
</div>
</div>
${section('health', 'Health', healthSection(snapshot.health))}
<p class="muted">This page only reads. Steer with <code>psql</code> or <code>pawl</code>. Pawl ${version} on PostgreSQL ${server}.</p>`,
  })
}

function section(id: string, title: string, content: Html): Html {
  return html`<section id="${id}" aria-labelledby="${id}-title"><h2 id="${id}-title">${title}</h2>${content}</section>`
}

function tiles({ unfinished, failures, workers, timers, backups, now }: Snapshot): Html {
  const { running, pending } = unfinished
  const more = running + pending >= UNFINISHED_MAX ? '+' : ''
  const alive = workers.filter(worker => worker.state === 'running').length
  const due = timers.slots.filter(({ state }) => state === 'pending').reduce((sum, slot) => sum + slot.timers, 0)
  const verified = backups.find(backup => backup.state === 'verified')
  return html`<ul class="tiles">
${tile('#runs', `${count(running)}${more}`, 'running', running > 0 ? 'running' : '')}
${tile('#runs', `${count(pending)}${more}`, 'waiting')}
${tile('#failures', failures.length === 10 ? '10+' : count(failures.length), 'failed in 7 days', failures.length > 0 ? 'bad' : '')}
${tile('#workers', count(alive), alive === 1 ? 'worker alive' : 'workers alive', alive === 0 ? 'bad' : '')}
${tile('#timers', count(due), 'timers due in 24 hours')}
${tile('#backups', verified === undefined ? 'none' : duration(now.getTime() - verified.taken_at.getTime()), 'since the last verified backup')}
</ul>`
}

function tile(href: string, value: string, label: string, look = ''): Html {
  return html`<li class="${look}"><a href="${href}"><span class="value">${value}</span> <span class="label">${label}</span></a></li>`
}
