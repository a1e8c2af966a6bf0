/** The style of every page of ours. Colours come in a light and a dark scheme; each pair has a contrast of 4.5 to 1 or more. */
export const style = `
:root {
  color-scheme: light dark;
  --ground: #f5f6f8; --card: #ffffff; --ink: #1b2430; --muted: #566172; --line: #e2e6eb; --link: #1f57ab; --focus: #1f57ab;
  --running: #1c59b5; --running-bg: #e8f0fc; --good: #17693a; --good-bg: #e4f4ea; --bad: #ad231c; --bad-bg: #fdecea;
  --warn: #7a5000; --warn-bg: #fff2d4; --quiet: #4d5868; --quiet-bg: #eef0f4; --off: #5f5375; --off-bg: #f1eef6; --track: #e4e8ee;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #11151b; --card: #191f28; --ink: #e4e9f0; --muted: #9ba7b7; --line: #2b3441; --link: #8fbcff; --focus: #8fbcff;
    --running: #8fbcff; --running-bg: #172d4b; --good: #82d8a3; --good-bg: #143322; --bad: #ffa198; --bad-bg: #45201f;
    --warn: #f2c76c; --warn-bg: #3b2e10; --quiet: #b6c0cc; --quiet-bg: #28313c; --off: #c6bbdd; --off-bg: #30293f; --track: #2b3441;
  }
}
* { box-sizing: border-box; }
html { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif; background: var(--ground); color: var(--ink); }
body { margin: 0 auto; max-width: 1280px; padding: 0 24px 40px; font-variant-numeric: tabular-nums; }
a { color: var(--link); text-underline-offset: 3px; }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; border-radius: 4px; }
.skip { position: absolute; left: -999px; } .skip:focus { left: 24px; top: 8px; background: var(--card); padding: 8px 12px; z-index: 1; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
header { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 20px; padding: 18px 0 14px; }
header .brand { display: flex; align-items: center; gap: 10px; font-weight: 650; font-size: 17px; letter-spacing: -.01em; color: inherit; text-decoration: none; }
nav ul { display: flex; flex-wrap: wrap; gap: 2px 16px; list-style: none; margin: 0; padding: 0; }
nav a { color: var(--muted); text-decoration: none; padding: 4px 0; display: block; } nav a:hover { color: var(--ink); text-decoration: underline; }
.right { margin-left: auto; display: flex; align-items: center; gap: 12px; color: var(--muted); font-size: 13px; }
button { font: inherit; font-size: 13px; color: var(--ink); background: var(--card); border: 1px solid var(--line); border-radius: 7px; padding: 4px 12px; cursor: pointer; }
button:hover { border-color: var(--muted); }
h1 { font-size: 26px; line-height: 1.2; letter-spacing: -.02em; font-weight: 650; margin: 10px 0 2px; }
h2 { font-size: 16px; letter-spacing: -.01em; font-weight: 650; margin: 0 0 12px; } h3 { font-size: 13px; font-weight: 600; color: var(--muted); margin: 14px 0 6px; }
.lead { margin: 0 0 18px; color: var(--muted); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px; list-style: none; padding: 0; margin: 0 0 16px; }
.tiles a, section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.tiles a { display: block; padding: 12px 16px; color: inherit; text-decoration: none; height: 100%; } .tiles a:hover { border-color: var(--muted); }
.tiles .value { display: block; font-size: 26px; line-height: 1.25; font-weight: 600; letter-spacing: -.02em; } .tiles .label { display: block; color: var(--muted); font-size: 13px; }
.tiles .bad .value { color: var(--bad); } .tiles .warn .value { color: var(--warn); } .tiles .running .value { color: var(--running); }
section { padding: 16px 20px 18px; margin: 0 0 16px; min-width: 0; scroll-margin-top: 12px; }
.two { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0 16px; align-items: start; } .pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0 28px; }
@media (max-width: 900px) { .two, .pair { grid-template-columns: minmax(0, 1fr); } body { padding: 0 12px 32px; } }
section p { margin: 0 0 10px; } section > :last-child { margin-bottom: 0; } .idle { margin-top: 10px; } .empty, .muted { color: var(--muted); } .muted, .note, .error, .id { font-weight: 400; }
.scroll { overflow-x: auto; border-radius: 4px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; } table.narrow { width: auto; min-width: 420px; }
th, td { text-align: left; vertical-align: top; padding: 7px 16px 7px 0; border-top: 1px solid var(--line); font-weight: 400; overflow-wrap: anywhere; }
th:last-child, td:last-child { padding-right: 0; } thead th { border-top: 0; padding-top: 0; color: var(--muted); font-size: 12.5px; white-space: nowrap; }
tbody th { font-weight: 550; } .figure { text-align: right; white-space: nowrap; } .figure .muted { font-weight: 400; } .none { color: var(--muted); }
.time { white-space: nowrap; } .runs th[scope=row] { min-width: 260px; } .runs td:nth-child(3) { white-space: nowrap; width: 205px; }
.id { color: var(--muted); font: 12px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; } .note { color: var(--muted); font-size: 13px; } .error { color: var(--bad); font-size: 13px; overflow-wrap: anywhere; }
code { font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; } code.copy { user-select: all; background: var(--quiet-bg); padding: 2px 7px; border-radius: 5px; display: inline-block; }
.badge { display: inline-block; white-space: nowrap; font-size: 12.5px; line-height: 20px; padding: 0 9px; border-radius: 10px; font-weight: 550; }
.badge.running { color: var(--running); background: var(--running-bg); } .badge.good { color: var(--good); background: var(--good-bg); }
.badge.bad { color: var(--bad); background: var(--bad-bg); } .badge.warn { color: var(--warn); background: var(--warn-bg); }
.badge.quiet { color: var(--quiet); background: var(--quiet-bg); } .badge.off { color: var(--off); background: var(--off-bg); }
progress { appearance: none; width: 130px; height: 8px; border: 0; border-radius: 4px; background: var(--track); vertical-align: middle; overflow: hidden; color: var(--running); }
progress::-webkit-progress-bar { background: var(--track); border-radius: 4px; } progress::-webkit-progress-value { background: var(--running); border-radius: 4px; }
progress::-moz-progress-bar { background: var(--running); border-radius: 4px; }
progress.completed::-webkit-progress-value { background: var(--good); } progress.completed::-moz-progress-bar { background: var(--good); }
progress.failed::-webkit-progress-value { background: var(--bad); } progress.failed::-moz-progress-bar { background: var(--bad); }
progress.cancelled::-webkit-progress-value { background: var(--off); } progress.cancelled::-moz-progress-bar { background: var(--off); }
.percent { display: inline-block; min-width: 54px; text-align: right; font-size: 13px; }
details { margin-top: 12px; } summary { cursor: pointer; color: var(--link); width: fit-content; } details[open] > summary { margin-bottom: 10px; }
svg.graph { display: block; } svg text { font-family: inherit; fill: var(--ink); }
.node rect { fill: var(--quiet-bg); stroke: var(--quiet); stroke-width: 1; stroke-opacity: .45; } .node .name { font-size: 13px; font-weight: 600; } .node .state { font-size: 12px; fill: var(--quiet); }
.node.running rect { fill: var(--running-bg); stroke: var(--running); stroke-opacity: 1; stroke-width: 1.5; } .node.running .state { fill: var(--running); }
.node.good rect { fill: var(--good-bg); stroke: var(--good); } .node.good .state { fill: var(--good); }
.node.bad rect { fill: var(--bad-bg); stroke: var(--bad); stroke-opacity: 1; stroke-width: 1.5; } .node.bad .state { fill: var(--bad); }
.node.warn rect { fill: var(--warn-bg); stroke: var(--warn); } .node.warn .state { fill: var(--warn); } .node.off rect { fill: var(--off-bg); stroke: var(--off); stroke-dasharray: 4 3; } .node.off .state { fill: var(--off); }
.edge { fill: none; stroke: var(--muted); stroke-width: 1.25; opacity: .75; } .edge.soft { stroke-dasharray: 4 4; } .tip { fill: var(--muted); }
svg.timeline { display: block; width: 100%; min-width: 720px; height: auto; } .timeline .grid { stroke: var(--line); } .timeline .floor { stroke: var(--muted); stroke-opacity: .5; }
.timeline .axis { font-size: 11px; fill: var(--muted); } .timeline line.now { stroke: var(--ink); stroke-width: 1.5; } .timeline text.now { font-size: 11.5px; font-weight: 650; }
.bar { fill: var(--quiet); } .bar.good { fill: var(--good); } .bar.bad { fill: var(--bad); } .bar.warn { fill: var(--warn); } .bar.running { fill: var(--running); } .bar.off { fill: var(--off); }
.bar.pending { fill: var(--running-bg); stroke: var(--running); stroke-width: 1; } .mark { font-size: 10px; } .mark.bad { fill: var(--bad); } .mark.warn { fill: var(--warn); }
.checks { list-style: none; margin: 0; padding: 0; columns: 2; column-gap: 32px; } @media (max-width: 900px) { .checks { columns: 1; } }
.checks li { break-inside: avoid; padding: 5px 0; border-top: 1px solid var(--line); display: grid; grid-template-columns: 68px 160px minmax(0, 1fr); gap: 10px; align-items: baseline; font-size: 14px; }
.checks .badge { justify-self: start; } .id.whole { white-space: nowrap; } .checks strong { font-weight: 550; } .checks .detail { color: var(--muted); font-size: 13px; overflow-wrap: anywhere; } .checks .bad .detail { color: var(--bad); }
.door { max-width: 420px; margin: 12vh auto 0; } .door label { display: block; font-weight: 550; margin-bottom: 6px; } .door input { font: inherit; width: 100%; padding: 8px 10px; border: 1px solid var(--muted); border-radius: 7px; background: var(--card); color: var(--ink); margin-bottom: 12px; }
.door button { font-size: 15px; padding: 7px 18px; background: var(--ink); color: var(--card); border-color: var(--ink); }
#news:not(:empty) { background: var(--warn-bg); color: var(--warn); border-radius: 8px; padding: 8px 14px; margin: 0 0 12px; }
@media print { nav, .right, .skip { display: none; } section { break-inside: avoid; } }
@media (forced-colors: active) { progress { border: 1px solid; } .badge { border: 1px solid; } .node rect, .bar { stroke: CanvasText; } }
`

/** A ratchet wheel and the pawl on it. */
export const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" width="24" height="24"><path fill="#1f57ab" d="M12 8.2l1.2-2.6 1.5 2.4 2.3-1.7.4 2.8 2.8-.6-.7 2.8 2.8.5-1.9 2.1 2.4 1.6-2.7 1.1 1.6 2.4-2.9-.1.5 2.8-2.6-1.2-.6 2.8L12 21.300l-2.100 2-.6-2.800-2.600 1.200.5-2.800-2.900.1 1.600-2.400-2.700-1.100 2.400-1.600-1.900-2.100 2.800-.5-.7-2.800 2.800.6.4-2.800 2.300 1.700 1.500-2.400z" transform="translate(0 -1.500)"/><circle cx="12" cy="13" r="2.600" fill="#fff"/><path fill="none" stroke="#e08b1a" stroke-width="2.400" stroke-linecap="round" d="M20.500 2.200L15.300 6"/></svg>`
