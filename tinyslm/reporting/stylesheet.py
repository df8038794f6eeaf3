"""The look of the page: system fonts, light and dark, wide and narrow, screen and paper."""

STYLE = """
:root { color-scheme: light dark; --text: #1d1f23; --soft: #5a5f68; --back: #ffffff; --panel: #f4f5f7;
  --line: #d5d8dd; --link: #0b57a4; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e6ea; --soft: #a4aab4; --back: #17191d; --panel: #22252b;
  --line: #3b4049; --link: #8ab8f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 66rem; background: var(--back); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .6rem; padding-top: .7rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.08rem; margin: 1.8rem 0 .3rem; }
p, ul, ol, dl, blockquote { margin: .5rem 0 .8rem; }
p, li, dd, dt, figcaption { max-width: 46rem; }
a { color: var(--link); }
.soft { color: var(--soft); }
nav a { margin-right: 1rem; white-space: nowrap; }
.scroll { overflow-x: auto; }
.note { font-size: .9rem; color: var(--soft); }
table { border-collapse: separate; border-spacing: 0; font-size: .84rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .5rem; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; white-space: normal; vertical-align: bottom; overflow-wrap: normal; }
td small { display: block; font-size: .8em; color: var(--soft); }
th:first-child { text-align: left; white-space: normal; min-width: 8rem; max-width: 13rem; position: sticky;
  left: 0; background: var(--back); font-weight: 600; }
tbody tr:first-child > * { border-bottom: 2px solid var(--soft); }
dl.columns { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; font-size: .92rem; }
dl.columns dt { font-weight: 600; }
dl.columns dd { margin: 0; }
dl.note { margin-bottom: 2rem; }
dl.answers dt { font-weight: 600; margin-top: 1rem; }
dl.answers dd { margin: .15rem 0 0; }
figure { margin: 1rem 0 1.8rem; }
figcaption { font-size: .92rem; margin-top: .5rem; }
.card { background: #ffffff; color: #222222; border: 1px solid var(--line); border-radius: 6px; padding: .5rem; }
svg { display: block; width: 100%; height: auto; stroke-linejoin: round; }
svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif !important; }
.card.scroll svg { min-width: 560px; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: .6rem; }
.panels .card p { margin: 0 .2rem .2rem; font-size: .85rem; font-weight: 600; line-height: 1.3; }
code { font: .82em/1.4 ui-monospace, "SF Mono", Consolas, "DejaVu Sans Mono", monospace; color: var(--soft); }
blockquote { margin-left: 0; padding: .6rem .9rem; background: var(--panel); border-left: 4px solid var(--soft);
  white-space: pre-wrap; max-width: 46rem; font-family: ui-serif, Georgia, "Noto Serif", serif; }
blockquote b { font-weight: 400; color: var(--soft); }
@media (max-width: 40rem) { body { padding-top: 1rem; } h1 { font-size: 1.45rem; }
  dl.columns { display: block; } dl.columns dt { margin-top: .5rem; }
  th:first-child { min-width: 7rem; max-width: 7.5rem; border-right: 1px solid var(--line); } }
@media print { :root { --text: #000; --soft: #444; --back: #fff; --panel: #fff; --line: #bbb; --link: #000; }
  @page { margin: 14mm; } body { max-width: none; padding: 0; font-size: 10.5pt; } nav { display: none; }
  table { font-size: 7pt; } th, td { padding: .2rem; } th:first-child { min-width: 4.6rem; position: static; }
  .scroll { overflow: visible; } .card.scroll svg { min-width: 0; } .panels { grid-template-columns: repeat(3, 1fr); }
  figure, .panels .card, section.model, dl.answers dd, tr { break-inside: avoid; }
  h2, h3, dt { break-after: avoid; } }
"""
