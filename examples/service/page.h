// The live page: numbers and the loss curve from /metrics once a second, and a text to classify or to teach. It fetches nothing from
// elsewhere.
#pragma once

inline constexpr const char* kPage = R"html(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>libdsrt service</title><style>
:root { color-scheme: light dark; --ink: light-dark(#1d2433, #e4e7ef); --soft: light-dark(#5b6475, #9aa3b5); --panel: light-dark(#f4f6fa, #1d222d);
        --line: light-dark(#d9dee8, #343b4a); --blue: light-dark(#2f55d4, #8ea8ff); background: light-dark(#fff, #12151c); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 1.5rem auto; padding: 0 1rem; color: var(--ink); }
h1 { font-size: 1.5rem; margin: 0; } header p { margin: 0 0 1.5rem; color: var(--soft); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: .75rem; margin: 0 0 1rem; }
dl div, figure, section { background: var(--panel); border-radius: 8px; padding: .75rem 1rem; margin: 0 0 1rem; } dl div { margin: 0; }
dt, figcaption, text { color: var(--soft); fill: var(--soft); font-size: .8rem; } dd { margin: 0; font-size: 1.4rem; font-variant-numeric: tabular-nums; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 11px; }
textarea { width: 100%; box-sizing: border-box; font: inherit; padding: .5rem; border: 1px solid var(--line); border-radius: 6px; margin-bottom: .5rem; }
button { font: inherit; padding: .25rem .9rem; border: 1px solid var(--line); border-radius: 6px; cursor: pointer; } #ask { background: var(--blue); color: light-dark(#fff, #12151c); border: 0; }
output { display: block; min-height: 1.5em; margin-top: .5rem; }
</style></head><body>
<header><h1>A classifier that learns while it serves</h1><p id="state">Waiting for the first numbers</p></header>
<dl id="numbers"></dl>
<figure><figcaption>Loss of the last steps; the bold line is its running mean</figcaption>
<svg id="curve" viewBox="0 0 800 220" role="img" aria-label="loss of the last steps"></svg></figure>
<section><textarea id="text" rows="2" aria-label="a text to classify or to teach">A text to classify</textarea>
<button id="ask">Classify</button> <span id="teach"></span><output id="answer"></output></section>
<script>
const $ = id => document.getElementById(id), made = (kind, text) => Object.assign(document.createElement(kind), {textContent: text ?? ""});
const names = {loss: "Loss", global_steps: "Steps", waiting: "Waiting", classified: "Answered", tokens_per_second: "Tokens/s", peak_bytes: "Memory, MiB"};
const form = {loss: v => v.toFixed(4), peak_bytes: v => (v / 1048576).toFixed(1)}, whole = v => Math.round(v).toLocaleString("en");
const shown = (key, v) => v === null || v === undefined ? "–" : (form[key] || whole)(v);

function draw(curve, last) {
  if (!curve.length) { $("curve").innerHTML = '<text x="400" y="110" text-anchor="middle">no step yet: post examples, or teach it below</text>'; return; }
  const [left, right, top, bottom] = [44, 790, 10, 195], most = Math.max(...curve, 1e-6), first = last - curve.length + 1;
  const x = i => curve.length > 1 ? left + (right - left) * i / (curve.length - 1) : left, y = v => bottom - (bottom - top) * v / most;
  let mean = curve[0];
  const share = 2 / (1 + Math.min(20, Math.max(1, curve.length / 10)));
  const smooth = curve.map(v => mean += share * (v - mean)), line = values => values.map((v, i) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`).join(" ");
  const rules = [0, .5, 1].map(f => `<line x1="${left}" x2="${right}" y1="${y(f * most)}" y2="${y(f * most)}" stroke="var(--line)"/>
    <text x="${left - 6}" y="${y(f * most) + 4}" text-anchor="end">${(f * most).toPrecision(2)}</text>`).join("");
  $("curve").innerHTML = rules + `<text x="${left}" y="214">step ${first}</text><text x="${right}" y="214" text-anchor="end">step ${last}</text>
    <polyline fill="none" stroke="var(--blue)" opacity=".35" points="${line(curve)}"/><polyline fill="none" stroke="var(--blue)" stroke-width="2.5" points="${line(smooth)}"/>`;
}

async function refresh() {
  try {
    const m = await (await fetch("/metrics")).json();
    $("numbers").replaceChildren(...Object.entries(names).map(([key, name]) => {
      const cell = made("div");
      cell.append(made("dt", name), made("dd", shown(key, m[key])));
      return cell;
    }));
    draw(m.curve, m.global_steps);
    $("state").textContent = (m.waiting ? "Learning" : "Waiting for examples") + (m.failed_steps ? `; ${m.failed_steps} steps failed, the service's log says why` : "");
    if (!$("teach").children.length) for (let label = 0; label < m.labels; ++label) {
      const button = made("button", `It is class ${label}`);
      button.onclick = () => say("/examples", {examples: [{text: $("text").value, label}]}, r => `taken as an example; ${r.waiting} wait`);
      $("teach").append(button, " ");
    }
  } catch (e) { $("state").textContent = "The service does not answer."; }
}

async function say(where, body, words) {
  try {
    const r = await (await fetch(where, {method: "POST", body: JSON.stringify(body)})).json();
    $("answer").textContent = r.error || words(r);
  } catch (e) { $("answer").textContent = "The service does not answer."; }
}
$("ask").onclick = () => say("/classify", {texts: [$("text").value]}, r => `class ${r.classes[0]}, with ${(100 * r.probabilities[0][r.classes[0]]).toFixed(1)} %`);
refresh(); setInterval(refresh, 1000);
</script></body></html>
)html";
