// The live page: numbers and the loss curve, from /metrics once a second. It fetches nothing from elsewhere.
#pragma once

inline constexpr const char* kPage = R"html(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>libdsrt service</title><style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; color: #1d2433; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1rem; }
dt { color: #667; font-size: .85rem; } dd { margin: 0; font-size: 1.4rem; font-variant-numeric: tabular-nums; }
svg { width: 100%; height: 14rem; background: #f6f7fa; border-radius: 6px; } textarea { width: 100%; box-sizing: border-box; font: inherit; }
</style></head><body><h1>A classifier that learns while it serves</h1>
<dl id="numbers"></dl><svg id="curve" viewBox="0 0 500 100" preserveAspectRatio="none" role="img" aria-label="loss of the last steps"></svg>
<p><textarea id="text" rows="2" aria-label="a text to classify">A text to classify</textarea><button id="ask">Classify</button> <output id="answer"></output></p>
<script>
const names = {loss: "Loss", global_steps: "Steps", waiting: "Examples waiting", classified: "Requests answered", tokens_per_second: "Tokens a second", peak_bytes: "Memory, MiB"};
const shown = (key, v) => v === null || v === undefined ? "–" : key === "loss" ? v.toFixed(4) : key === "peak_bytes" ? (v / 1048576).toFixed(0) : v.toFixed(0);
async function refresh() {
  try {
    const m = await (await fetch("/metrics")).json();
    document.getElementById("numbers").replaceChildren(...Object.entries(names).map(([key, name]) => {
      const cell = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");
      dt.textContent = name; dd.textContent = shown(key, m[key]); cell.append(dt, dd); return cell;
    }));
    const top = Math.max(...m.curve, 1e-6), points = m.curve.map((y, i) => `${m.curve.length > 1 ? 500 * i / (m.curve.length - 1) : 0},${98 - 94 * y / top}`).join(" ");
    document.getElementById("curve").innerHTML = `<polyline fill="none" stroke="#3457d5" stroke-width="1.5" vector-effect="non-scaling-stroke" points="${points}"/>`;
  } catch (e) { document.getElementById("numbers").textContent = "The service does not answer."; }
}
document.getElementById("ask").onclick = async () => {
  const r = await (await fetch("/classify", {method: "POST", body: JSON.stringify({texts: [document.getElementById("text").value]})})).json();
  document.getElementById("answer").textContent = r.error || `class ${r.classes[0]} (${(100 * r.probabilities[0][r.classes[0]]).toFixed(1)} %)`;
};
refresh(); setInterval(refresh, 1000);
</script></body></html>
)html";
