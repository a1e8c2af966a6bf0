import { type Html, html } from './html.ts'
import type { Failure, RunNow } from './snapshot.ts'
import { badge, count, duration, moment, shortened } from './words.ts'

/** Runs, those at work first: progress, rate, time left, worker, and why one waits. */
export function runsSection(runs: readonly RunNow[], now: Date): Html {
  if (runs.length === 0) return html`<p class="empty">No run yet. A producer requests one with <code>select pawl.request_override(…)</code>.</p>`
  return html`<div class="scroll" id="runs-scroll" role="region" tabindex="0" aria-label="Runs"><table class="runs">
    <caption class="hidden">Runs: those at work first, then the most recent ones</caption>
    <thead><tr><th scope="col">State</th><th scope="col">Run</th><th scope="col">Progress</th><th scope="col" class="figure">Rows</th><th scope="col" class="figure">Rate</th><th scope="col">Time</th><th scope="col">Worker</th></tr></thead>
    <tbody>${runs.map(run => row(run, now))}</tbody>
  </table></div>`
}

function row(run: RunNow, now: Date): Html {
  const rate = run.rows_per_second === null ? null : Number(run.rows_per_second)
  const note = run.stuck ?? run.why
  return html`<tr id="run-${run.run_id}">
    <td>${badge(run.state)}</td>
    <th scope="row"><span class="subject">${shortened(run.subject, 120)}</span> <span class="muted">${run.kind}</span>
      <div class="id">${run.run_id}</div>
      ${note !== null && html`<div class="${run.stuck === null ? 'note' : 'error'}">${run.stuck !== null && html`<strong>Stuck:</strong> `}${shortened(note, 400)}</div>`}
      ${run.error !== null && html`<div class="${run.state === 'failed' ? 'error' : 'note'}">${shortened(run.error, 400)}</div>`}
    </th>
    <td>${progress(run)}</td>
    <td class="figure${run.done === 0 ? ' none' : ''}">${count(run.done)}${run.total !== null && html` <span class="muted">of ${count(run.total)}</span>`}</td>
    <td class="figure">${rate !== null && rate > 0 && html`${count(rate)}<span class="muted">/s</span>`}</td>
    <td class="time">${time(run, now)}</td>
    <td class="time">${run.worker}${run.failures > 0 && html`<div class="muted">${run.failures === 1 ? 'failed once' : `failed ${run.failures} times`}</div>`}</td>
  </tr>`
}

function progress(run: RunNow): Html {
  const label = `${run.kind} ${run.run_id}`
  if (run.percent === null) {
    return run.state === 'running'
      ? html`<progress aria-label="${label}"></progress> <span class="percent">of unknown size</span>`
      : html`<span class="muted">–</span>`
  }
  const percent = Number(run.percent)
  return html`<progress class="${run.state}" max="100" value="${percent}" aria-label="${label}">${percent} %</progress> <span class="percent">${
    percent === 100 || percent === 0 ? percent : percent.toFixed(1)
  } %</span>`
}

function time(run: RunNow, now: Date): Html {
  if (run.state === 'running') return run.eta === null ? html`since ${moment(run.started_at, now)}` : html`${duration(run.eta.getTime() - now.getTime())} left`
  if (run.finished_at !== null && run.started_at !== null) {
    const took = run.finished_at.getTime() - run.started_at.getTime()
    return html`${moment(run.finished_at, now)}<div class="muted">took ${took < 1_000 ? `${took} ms` : duration(took)}</div>`
  }
  return run.finished_at === null ? html`<span class="muted">–</span>` : moment(run.finished_at, now)
}

/** What failed for good within a week, each with the statement that runs it again. */
export function failuresSection(failures: readonly Failure[], now: Date): Html {
  if (failures.length === 0) return html`<p class="empty">Nothing has failed for good within the last 7 days.</p>`
  return html`<div class="scroll" id="failures-scroll" role="region" tabindex="0" aria-label="Failures"><table>
    <caption class="hidden">What failed for good within 7 days, newest first, with the statement that runs it again</caption>
    <thead><tr><th scope="col">Run</th><th scope="col">Failed</th><th scope="col">Why</th><th scope="col">To run it again, in psql</th></tr></thead>
    <tbody>${failures.map(
      failure => html`<tr id="failure-${failure.run_id}">
        <th scope="row"><span class="subject">${shortened(failure.subject, 120)}</span> <span class="muted">${failure.kind}</span><div class="id">${failure.run_id}</div></th>
        <td class="time">${moment(failure.failed_at, now)}</td>
        <td><span class="error">${shortened(failure.error ?? 'no reason was recorded', 400)}</span></td>
        <td><code class="copy">${failure.retry_with};</code></td>
      </tr>`,
    )}</tbody>
  </table></div>`
}
