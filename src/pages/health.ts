import type { Status } from '../status.ts'
import { type Html, html, nothing } from './html.ts'
import type { Backup, HealthCheck } from './snapshot.ts'
import { badge, bytes, count, duration, moment, shortened } from './words.ts'

/** The newest backups; only one that was restored counts. */
export function backupsSection(backups: readonly Backup[], now: Date): Html {
  if (backups.length === 0)
    return html`<p class="empty">No backup is known. <code>BACKUP_DIR</code> or <code>BACKUP_S3_BUCKET</code> gives workers a place for them.</p>`
  return html`<div class="scroll" id="backups-scroll" role="region" tabindex="0" aria-label="Backups"><table>
    <caption class="hidden">Backups, newest first</caption>
    <thead><tr><th scope="col">Taken</th><th scope="col">State</th><th scope="col" class="figure">Size</th><th scope="col">Restored and compared</th></tr></thead>
    <tbody>${backups.map(
      backup => html`<tr>
        <th scope="row">${moment(backup.taken_at, now)} <span class="muted">${backup.kind}${backup.scope === 'full' ? '' : `, ${backup.scope}`}</span><div class="id whole">${backup.backup_id}</div></th>
        <td>${badge(backup.state)}</td>
        <td class="figure">${bytes(backup.bytes)}${backup.rows !== null && html`<div class="muted">${count(backup.rows)} rows</div>`}</td>
        <td>${moment(backup.verified_at, now)}${backup.verify_seconds !== null && html` <span class="muted">in ${duration(backup.verify_seconds * 1000)}</span>`}
          ${!backup.encrypted && html`<div class="muted">not encrypted</div>`}${backup.error !== null && html`<div class="error">${shortened(backup.error, 300)}</div>`}</td>
      </tr>`,
    )}</tbody>
  </table></div>`
}

/** Worker processes alive, and what they hold. */
export function workersSection(workers: Status['workers'], now: Date): Html {
  if (workers.length === 0) return html`<p class="empty">No worker is running. Start one with <code>pawl work</code>.</p>`
  return html`<div class="scroll" id="workers-scroll" role="region" tabindex="0" aria-label="Workers"><table>
    <caption class="hidden">Workers that are not stopped</caption>
    <thead><tr><th scope="col">Worker</th><th scope="col">State</th><th scope="col" class="figure">Runs</th><th scope="col">Last seen</th></tr></thead>
    <tbody>${workers.map(
      worker => html`<tr><th scope="row">${worker.name}</th><td>${badge(worker.state === 'running' ? 'ok' : worker.state, worker.state === 'running' ? 'alive' : worker.state)}</td>
        <td class="figure">${count(worker.runs)}</td><td class="time">${moment(worker.seen_at, now)}</td></tr>`,
    )}</tbody>
  </table></div>`
}

/** Queues with something in them, or paused; the others by name only. */
export function queuesSection(queues: Status['queues']): Html {
  const isBusy = ({ paused, ready, delayed, active }: Status['queues'][number]) => paused || ready + delayed + active > 0
  const idle = queues.filter(queue => !isBusy(queue)).map(queue => queue.queue)
  return html`${busyQueues(queues.filter(isBusy))}${idle.length > 0 && html`<p class="note idle">Empty: ${idle.join(', ')}</p>`}`
}

function busyQueues(queues: Status['queues']): Html {
  if (queues.length === 0) return nothing
  return html`<div class="scroll" id="queues-scroll" role="region" tabindex="0" aria-label="Queues"><table>
    <caption class="hidden">Queues and their jobs</caption>
    <thead><tr><th scope="col">Queue</th><th scope="col">State</th><th scope="col" class="figure">Ready</th><th scope="col" class="figure">Delayed</th><th scope="col" class="figure">Active</th><th scope="col" class="figure">Oldest waits</th></tr></thead>
    <tbody>${queues.map(
      queue => html`<tr><th scope="row">${queue.queue}</th><td>${queue.paused ? badge('paused') : html`<span class="muted">open</span>`}</td>
        ${[queue.ready, queue.delayed, queue.active].map(jobs => html`<td class="figure${jobs === 0 ? ' none' : ''}">${count(jobs)}</td>`)}
        <td class="figure">${queue.oldest_ready_seconds === null ? '' : duration(queue.oldest_ready_seconds * 1000)}</td></tr>`,
    )}</tbody>
  </table></div>`
}

/** The checks of `pawl.health`: first those that need a person. */
export function healthSection(checks: readonly HealthCheck[]): Html {
  const sorted = [...checks.filter(check => !check.ok), ...checks.filter(check => check.ok)]
  return html`<ul class="checks">${sorted.map(
    ({ check, ok, detail }) =>
      html`<li class="${ok ? '' : 'bad'}">${badge(ok ? 'ok' : 'failed', ok ? 'ok' : 'look')} <strong>${check}</strong> <span class="detail">${shortened(detail, 300)}</span></li>`,
  )}</ul>`
}
