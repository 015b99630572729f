// Draws the dashboards without Grafana: reads dashboards/*.json, asks a Prometheus what each panel asks, and has Chromium make a picture of each.
// For docs/images/dashboards, and to see what a change of panels.mjs looks like. What it draws is not what Grafana would: only the layout and the data are.
//
//   node deploy/grafana/render.mjs http://127.0.0.1:9090 OUT_DIRECTORY [MINUTES]

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const [prometheus, out, minutes = "15"] = process.argv.slice(2);
if (!prometheus || !out) {
  console.error("node render.mjs http://PROMETHEUS OUT_DIRECTORY [MINUTES]");
  process.exit(2);
}
const END = Math.floor(Date.now() / 1000);
const START = END - Math.round(60 * Number(minutes));
/** As many points as a panel has pixels for. */
const STEP = Math.max(1, Math.round((END - START) / 200));
const COLUMN = 62;
const ROW = 30;
const COLOURS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#f2495c", "#b877d9", "#3274d9", "#96d98d", "#ffb357", "#8ab8ff"];
/** More do not fit below a panel. */
const LEGENDS = 6;

const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const everything = (query) => query.replaceAll("$__rate_interval", "1m").replaceAll("$region", ".*").replaceAll("$instance", ".*");

const scaled = (value, base, units) => {
  let power = 0;
  while (Math.abs(value) >= base && power < units.length - 1) [value, power] = [value / base, power + 1];
  return `${Number(value.toPrecision(3))}${units[power]}`;
};
const SECONDS = [[3600, "h"], [60, "min"], [1, "s"], [1e-3, "ms"], [1e-6, "µs"]];
function shown(value, unit) {
  if (value === undefined || Number.isNaN(value)) return "–";
  if (unit === "percentunit") return `${Number((100 * value).toPrecision(3))} %`;
  if (unit === "bytes") return scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]);
  if (unit === "Bps") return `${scaled(value, 1000, [" B", " kB", " MB", " GB"])}/s`;
  if (unit === "s") {
    const [size, name] = SECONDS.find(([size]) => Math.abs(value) >= size) ?? [1, "s"];
    return `${Number((value / size).toPrecision(3))} ${name}`;
  }
  return scaled(value, 1000, ["", " k", " M", " G"]) + ({ pps: " p/s", reqps: " /s" }[unit] ?? "");
}

/** The series of a panel: legends and points. */
async function asked(panel) {
  const all = [];
  for (const target of panel.targets) {
    const parameters = new URLSearchParams({ query: everything(target.expr), start: START, end: END, step: STEP });
    const answer = await (await fetch(new URL(`/api/v1/query_range?${parameters}`, prometheus))).json();
    if (answer.status !== "success") throw new Error(`${panel.title}: ${answer.error}`);
    for (const { metric, values } of answer.data.result) {
      const legend = target.legendFormat === "__auto" ? "" : target.legendFormat.replace(/\{\{(\w+)\}\}/g, (_, label) => metric[label] ?? "");
      all.push({ legend, points: values.map(([at, value]) => [at, Number(value)]) });
    }
  }
  return all;
}

const last = (series) => series.points.findLast(([, value]) => !Number.isNaN(value))?.[1];

function stat(panel, series) {
  const unit = panel.fieldConfig.defaults.unit;
  const values = series.slice(0, 4).map((one) => `<div><b>${escaped(shown(last(one), unit))}</b> <i>${escaped(one.legend)}</i></div>`);
  return `<div class="stat n${values.length}">${values.join("") || "<b>no data</b>"}</div>`;
}

/** A round number that is at least this. */
function above(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

function plot(panel, series, width, height) {
  const unit = panel.fieldConfig.defaults.unit;
  const numbers = series.flatMap((one) => one.points.map(([, value]) => value)).filter(Number.isFinite);
  const top = above(Math.max(...numbers, 0) || 1);
  const [left, bottom] = [62, 20];
  const x = (at) => left + ((at - START) / (END - START)) * (width - left - 8);
  const y = (value) => height - bottom - (value / top) * (height - bottom - 8);
  const grid = [0, 0.5, 1].map((part) => `<line x1="${left}" x2="${width - 8}" y1="${y(part * top)}" y2="${y(part * top)}" class="grid"/><text x="${left - 6}" y="${y(part * top) + 4}" text-anchor="end">${escaped(shown(part * top, unit))}</text>`);
  const times = [0, 0.5, 1].map((part) => {
    const at = START + part * (END - START);
    const anchor = ["start", "middle", "end"][part * 2];
    return `<text x="${x(at)}" y="${height - 4}" text-anchor="${anchor}">${new Date(1000 * at).toISOString().slice(11, 16)}</text>`;
  });
  const lines = series.map((one, number) => {
    const path = one.points.map(([at, value], index) => {
      if (!Number.isFinite(value)) return "";
      const gap = index === 0 || !Number.isFinite(one.points[index - 1][1]) || at - one.points[index - 1][0] > 2 * STEP;
      return `${gap ? "M" : "L"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    });
    const dashed = /^(capacity|limit) of /.test(one.legend) ? 'stroke-dasharray="6 5"' : "";
    return `<path d="${path.join("")}" stroke="${COLOURS[number % COLOURS.length]}" ${dashed}/>`;
  });
  return `<svg width="${width}" height="${height}">${grid.join("")}${times.join("")}${lines.join("")}</svg>`;
}

function legends(panel, series) {
  const unit = panel.fieldConfig.defaults.unit;
  const some = series.slice(0, LEGENDS).map((one, number) => `<span><u style="background:${COLOURS[number % COLOURS.length]}"></u>${escaped(one.legend || "value")} ${escaped(shown(last(one), unit))}</span>`);
  const more = series.length > LEGENDS ? `<span>and ${series.length - LEGENDS} more</span>` : "";
  return `<div class="legend">${some.join("")}${more}</div>`;
}

async function drawn(panel) {
  const { x, y, w, h } = panel.gridPos;
  const [width, height] = [w * COLUMN - 8, h * ROW - 8];
  const place = `left:${x * COLUMN + 12}px;top:${y * ROW + 60}px;width:${width}px;height:${height}px`;
  if (panel.type === "row") return `<h2 style="${place}">${escaped(panel.title)}</h2>`;
  const series = await asked(panel);
  const inside = panel.type === "stat" ? stat(panel, series) : plot(panel, series, width - 16, height - 76) + legends(panel, series);
  return `<section style="${place}"><h3>${escaped(panel.title)}</h3>${inside}</section>`;
}

const STYLE = `body{margin:0;background:#111217;color:#ccccdc;font:13px sans-serif}h1{position:absolute;left:16px;top:4px;font-size:20px}h1 small{font-weight:normal;font-size:13px;color:#8e8e9c;margin-left:12px}
h2{position:absolute;margin:0;font-size:15px;line-height:24px}section{position:absolute;background:#181b1f;border:1px solid #2c3235;border-radius:3px;box-sizing:border-box;padding:6px 8px;overflow:hidden}
h3{margin:0 0 6px;font-size:13px;font-weight:500;white-space:nowrap}svg text{fill:#8e8e9c;font-size:11px}svg path{fill:none;stroke-width:1.4}.grid{stroke:#26292e}
.legend{font-size:11px;line-height:15px}.legend span{margin-right:10px;white-space:nowrap}.legend u{display:inline-block;width:12px;height:3px;margin-right:4px;vertical-align:middle}
.stat b{font-size:17px;color:#73bf69}.stat.n1 b{font-size:30px}.stat i{font-style:normal;font-size:11px;color:#8e8e9c}`;

const directory = mkdtempSync(join(tmpdir(), "dashboards-"));
mkdirSync(out, { recursive: true });
for (const file of readdirSync(new URL("dashboards/", import.meta.url))) {
  const dashboard = JSON.parse(readFileSync(new URL(`dashboards/${file}`, import.meta.url), "utf8"));
  const panels = [];
  for (const panel of dashboard.panels) panels.push(await drawn(panel));
  const height = Math.max(...dashboard.panels.map(({ gridPos: { y, h } }) => y + h)) * ROW + 76;
  const page = join(directory, `${file}.html`);
  const title = `<h1>${escaped(dashboard.title)}<small>drawn from the dashboard's JSON and a Prometheus by render.mjs, not by Grafana</small></h1>`;
  writeFileSync(page, `<!doctype html><meta charset="utf-8"><style>${STYLE}</style>${title}${panels.join("\n")}`);
  const picture = resolve(out, file.replace(".json", ".png"));
  execFileSync(process.env.TEST_CHROMIUM ?? "chromium", [
    "--headless", ...(process.getuid() === 0 ? ["--no-sandbox"] : []), "--hide-scrollbars", "--disable-gpu", `--user-data-dir=${join(directory, "profile")}`,
    `--window-size=${24 * COLUMN + 24},${height}`, `--screenshot=${picture}`, `file://${page}`,
  ], { stdio: "ignore", timeout: 60_000 });
  console.log(picture);
}
rmSync(directory, { recursive: true, force: true });
