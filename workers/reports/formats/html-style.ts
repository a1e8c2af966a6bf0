/** The look of a page: calm on a screen, readable on a phone, and whole rows under a repeated head on paper. */
export const style = `
:root { color-scheme: light; --ink: #1f2933; --faint: #5f6b78; --line: #dfe4e9; --tint: #f5f7f9; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.5rem 3rem; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; }
header { border-bottom: 2px solid var(--ink); padding-bottom: 1rem; margin-bottom: 1.75rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .35rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .6rem; overflow-wrap: anywhere; }
header p, section > p { margin: 0 0 .6rem; max-width: 46rem; overflow-wrap: anywhere; white-space: pre-line; }
.origin { color: var(--faint); font-size: .9rem; margin: 0; }
.parameters { display: flex; flex-wrap: wrap; gap: .35rem 1.5rem; margin: .75rem 0 0; font-size: .9rem; }
.parameters div { display: flex; gap: .4rem; min-width: 0; }
.parameters dt { color: var(--faint); }
.parameters dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
section { margin: 0 0 2.25rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .75rem; margin: 0; }
.cards div { border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem; break-inside: avoid; min-width: 0; }
.cards dt { color: var(--faint); font-size: .85rem; overflow-wrap: anywhere; }
.cards dd { margin: .1rem 0 0; font-size: 1.35rem; line-height: 1.3; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
.cards dd.long { font-size: 1rem; }
svg { display: block; width: 100%; min-width: 34rem; height: auto; font-family: inherit; break-inside: avoid; }
details { margin-top: .5rem; }
summary { cursor: pointer; color: var(--faint); font-size: .9rem; }
details .scroll { margin-top: .5rem; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { border-bottom: 1.5px solid var(--faint); background: var(--tint); white-space: nowrap; }
td { white-space: pre-wrap; overflow-wrap: break-word; max-width: 32rem; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.moment { white-space: nowrap; }
.count { color: var(--faint); font-size: .85rem; margin: .4rem 0 0; }
@media (max-width: 40rem) { .cards { grid-template-columns: 1fr 1fr; } body { padding: 1.25rem 1rem 2rem; } h1 { font-size: 1.4rem; } th, td { padding: .3rem .5rem; } }
@media print {
  @page { margin: 14mm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  .scroll { overflow: visible; }
  svg { min-width: 0; }
  thead { display: table-header-group; }
  tr { break-inside: avoid; }
  th { white-space: normal; background: none; }
  td { max-width: none; overflow-wrap: anywhere; }
  h2 { break-after: avoid; }
  details:not([open]) { display: none; }
}
`
