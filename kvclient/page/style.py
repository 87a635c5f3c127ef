"""How the report looks, and the one thing it does: the search over keys.

The script puts what it shows on the page as text, never as markup. ``#q=block_1`` behind the page's
address is a search to begin with.
"""

from __future__ import annotations

from typing import Final

__all__ = ["SCRIPT", "STYLE"]

STYLE: Final = """
:root { --ink: #1b2430; --soft: #5b6675; --paper: #fbfbf9; --card: #ffffff; --line: #dfe3e8;
  --all: #4a5a70; --info: #2f7fb8; --warn: #c77700; --error: #c22f3d; --quiet: #8a94a3;
  --accent: #1f6fa8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --soft: #9aa5b4; --paper: #14181e; --card: #1c222a; --line: #2f3843;
    --all: #9fb0c7; --info: #5aa9dd; --warn: #f0a63c; --error: #f2707b; --quiet: #6d7887;
    --accent: #6fb9ea; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.7rem; letter-spacing: -0.01em; }
h2 { margin: 0 0 .8rem; font-size: 1.15rem; }
header p, figcaption, footer, section > p, .example { color: var(--soft); }
header p { margin: .2rem 0 1rem; }
a { color: var(--accent); }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: .5rem; padding: .4rem .8rem; background: var(--card); }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 0 0 1.2rem; }
.tiles div { flex: 1 1 8rem; padding: .7rem 1rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .6rem; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
section { margin: 0 0 1.2rem; padding: 1.1rem 1.2rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .6rem; }
figure { margin: 0; }
figcaption, section > p { font-size: .88rem; margin: .6rem 0 0; }
.chart { display: block; width: 100%; min-width: 44rem; height: auto; }
.chart line { stroke: var(--line); }
.chart text { fill: var(--ink); font-size: 13px; }
.chart .most, .chart .tick { fill: var(--soft); font-size: 12px; }
.chart rect:hover { opacity: .6; }
.all rect { fill: var(--all); } .info rect { fill: var(--info); } .warn rect { fill: var(--warn); }
.error rect { fill: var(--error); } .quiet rect { fill: var(--quiet); }
.share { width: 3rem; height: .5rem; } .share rect { fill: var(--info); }
.wide { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { padding: .4rem .7rem .4rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td { overflow-wrap: anywhere; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.t { font-size: .84rem; white-space: nowrap; font-variant-numeric: tabular-nums; }
code { font: .92em ui-monospace, monospace; }
.example { display: block; font: .82rem ui-monospace, monospace; }
details { margin-top: .6rem; } summary { cursor: pointer; color: var(--accent); }
#search { display: flex; flex-wrap: wrap; gap: .5rem .8rem; align-items: center;
  margin: 0 0 .8rem; }
#q { flex: 1 1 16rem; padding: .5rem .8rem; font: inherit; color: inherit;
  background: var(--paper); border: 1px solid var(--line); border-radius: .5rem; }
#q:focus-visible, summary:focus-visible, .wide:focus-visible { outline: 2px solid var(--accent); }
@media print { body { max-width: none; } #search { display: none; } }
"""

SCRIPT: Final = """
"use strict";
(() => {
  const data = document.getElementById("data");
  const box = document.getElementById("q");
  const table = document.getElementById("keys");
  if (!box || !table) return;
  const keys = JSON.parse(data.textContent);
  const lower = keys.map((row) => row[0].toLowerCase());
  const body = table.tBodies[0];
  const found = document.getElementById("found");
  const most = 50;
  const number = new Intl.NumberFormat("en-US");
  function show() {
    const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean);
    const rows = [];
    let matches = 0;
    for (let at = 0; at < keys.length; at++) {
      if (words.every((word) => lower[at].includes(word))) {
        matches++;
        if (rows.length < (words.length ? most : 20)) rows.push(keys[at]);
      }
    }
    body.replaceChildren(...rows.map((cells) => {
      const row = document.createElement("tr");
      cells.forEach((cell, at) => {
        const column = document.createElement("td");
        column.textContent = typeof cell === "number" ? number.format(cell) : cell;
        column.className = ["", "n", "n", "t", "t", ""][at];
        row.append(column);
      });
      return row;
    }));
    found.textContent = number.format(matches) + (matches === 1 ? " key" : " keys")
      + (matches > rows.length ? ", the first " + rows.length + " shown" : "");
  }
  function follow() {
    const asked = new URLSearchParams(location.hash.slice(1)).get("q");
    if (asked !== null) box.value = asked;
    show();
  }
  box.addEventListener("input", show);
  document.getElementById("search").addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", follow);
  follow();
})();
"""
