import { createHash } from 'node:crypto'
import { type Html, html, nothing, textOf } from './html.ts'
import { script } from './script.ts'
import { icon, style } from './style.ts'

type File = { type: string; text: string }

// Named by their content: a browser keeps them for ever and never shows an old one.
const named = (name: string, ending: string, text: string) => `/${name}-${createHash('sha256').update(text).digest('hex').slice(0, 12)}.${ending}`
const paths = { style: named('page', 'css', style), script: named('page', 'js', script), icon: named('icon', 'svg', icon) }

/** What pages load. There is nothing secret in it, so the door needs no key. */
export const files: ReadonlyMap<string, File> = new Map([
  [paths.style, { type: 'text/css; charset=utf-8', text: style }],
  [paths.script, { type: 'text/javascript; charset=utf-8', text: script }],
  [paths.icon, { type: 'image/svg+xml', text: icon }],
])

export type Frame = {
  title: string
  main: Html
  /** Links of the page's own parts, and whether it keeps itself up to date. */
  live?: boolean
  /** Where there is a token, one can leave. */
  leave?: boolean
  /** Seconds after which the browser asks again by itself. */
  again?: number
}

const parts: readonly (readonly [string, string])[] = [
  ['#runs', 'Runs'],
  ['#failures', 'Failures'],
  ['#tables', 'Tables'],
  ['#timers', 'Timers'],
  ['#backups', 'Backups'],
  ['#health', 'Health'],
  ['/queues', 'Queues ↗'],
]

/** A whole page. It loads nothing from elsewhere, and has no script or style in itself. */
export function page({ title, main, live = false, leave = false, again }: Frame): string {
  return textOf(html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>${title}</title>
<link rel="stylesheet" href="${paths.style}">
<link rel="icon" href="${paths.icon}" type="image/svg+xml">
${again !== undefined && html`<meta http-equiv="refresh" content="${again}">`}
${live && html`<noscript><meta http-equiv="refresh" content="15"></noscript><script src="${paths.script}" defer></script>`}
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
<a class="brand" href="/"><img src="${paths.icon}" alt="" width="26" height="26">Pawl</a>
${live ? html`<nav aria-label="Parts of this page"><ul>${parts.map(([href, text]) => html`<li><a href="${href}">${text}</a></li>`)}</ul></nav>` : nothing}
<div class="right"><span id="updates"></span>${leave && html`<form method="post" action="/logout"><button>Leave</button></form>`}</div>
</header>
<p id="news" role="status"></p>
<main id="main" tabindex="-1">${main}</main>
</body>
</html>
`)
}

/** A page that says one thing: what is wrong, and what to do. */
export function notice(title: string, text: Html, options: Pick<Frame, 'again' | 'leave'> = {}): string {
  return page({ title: `${title} · Pawl`, main: html`<h1>${title}</h1><section>${text}</section>`, ...options })
}

/** The door: the token is asked for, and never stands in an address. */
export function door(next: string, wrong: boolean): string {
  return page({
    title: 'Token needed · Pawl',
    main: html`<div class="door"><section><h1>Token needed</h1>
      <form method="post" action="/login">
        <p id="why">${wrong ? html`<strong class="error">That is not the token.</strong> ` : nothing}It is what <code>PAWL_PAGES_TOKEN</code> holds where Pawl runs.</p>
        <label for="token">Token</label>
        <input id="token" name="token" type="password" autocomplete="current-password" required aria-describedby="why"${wrong && html` aria-invalid="true"`}>
        <input type="hidden" name="next" value="${next}">
        <button>Open</button>
      </form></section></div>`,
  })
}
