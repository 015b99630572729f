// Makes Grafana's dashboards of panels.mjs: `node build.mjs` writes them, `node build.mjs --check` fails where they are not what it would write.
// They are committed, because deploying must not need Node.

import { readFileSync, writeFileSync } from "node:fs";
import { dashboards } from "./panels.mjs";

/** As deploy/grafana/provisioning has it. */
const SOURCE = { type: "prometheus", uid: "prometheus" };
const WIDTH = 24;

const from = (metric, label) => ({ query: `label_values(${metric}, ${label})`, refId: "values" });
const variable = (name, label, query) => ({
  type: "query", name, label, datasource: SOURCE, query, definition: query.query,
  // Those that there were while the range is looked at.
  refresh: 2, sort: 1, multi: true, includeAll: true, current: { selected: true, text: ["All"], value: ["$__all"] },
});
const VARIABLES = {
  // Regions that have edges or nodes.
  region: variable("region", "Region", from('{__name__=~"sluice_(sfu|edge)_info"}', "region")),
  sfu: variable("instance", "SFU node", from('sluice_sfu_info{region=~"$region"}', "instance")),
  edge: variable("instance", "Edge", from('sluice_edge_info{region=~"$region"}', "instance")),
};

const targets = (queries, instant) => Object.entries(queries).map(([legend, expr], number) => ({
  refId: String.fromCharCode(65 + number), datasource: SOURCE, expr, legendFormat: legend || "__auto", instant, range: !instant,
}));

const series = ([title, unit, queries, description]) => ({
  type: "timeseries", title, description: description ?? "", datasource: SOURCE,
  fieldConfig: {
    defaults: { unit, min: 0, custom: { lineWidth: 1, fillOpacity: 8, showPoints: "never", spanNulls: false } },
    // What may be used at most is a line to look up to.
    overrides: [{ matcher: { id: "byRegexp", options: "/^(capacity|limit) of /" }, properties: [{ id: "custom.lineStyle", value: { fill: "dash", dash: [8, 8] } }, { id: "custom.fillOpacity", value: 0 }] }],
  },
  options: { legend: { displayMode: "list", placement: "bottom", showLegend: true }, tooltip: { mode: "multi", sort: "desc" } },
  targets: targets(queries, false),
});

const stat = ([title, unit, queries, description]) => ({
  type: "stat", title, description: description ?? "", datasource: SOURCE,
  fieldConfig: { defaults: { unit }, overrides: [] },
  options: { colorMode: "none", graphMode: "area", justifyMode: "auto", textMode: "auto", reduceOptions: { calcs: ["lastNotNull"], fields: "", values: false } },
  targets: targets(queries, false),
});

/** Panels side by side, as many in a line as fit, from `y` on; and where the next line begins. */
function laid(panels, width, height, y) {
  const across = Math.floor(WIDTH / width);
  const placed = panels.map((panel, number) => ({
    ...panel, gridPos: { x: (number % across) * width, y: y + Math.floor(number / across) * height, w: width, h: height },
  }));
  return [placed, y + Math.ceil(panels.length / across) * height];
}

function rows(dashboard) {
  let y = 0;
  const all = [];
  for (const row of dashboard.rows) {
    all.push({ type: "row", title: row.title, collapsed: false, panels: [], gridPos: { x: 0, y, w: WIDTH, h: 1 } });
    // Four in a line where that leaves no gap, else three.
    const width = row.panels?.length % 4 === 0 ? 6 : 8;
    const [panels, next] = row.stats ? laid(row.stats.map(stat), 3, 4, y + 1) : laid(row.panels.map(series), width, 8, y + 1);
    all.push(...panels);
    y = next;
  }
  return all.map((panel, number) => ({ id: number + 1, ...panel }));
}

function grafana(dashboard) {
  return {
    uid: `sluice-${dashboard.file}`, title: dashboard.title, description: dashboard.about, tags: ["sluice"], schemaVersion: 39, version: 1, editable: true,
    graphTooltip: 1, timezone: "browser", refresh: "30s", time: { from: "now-1h", to: "now" },
    links: [{ type: "dashboards", title: "Sluice", tags: ["sluice"], asDropdown: false, includeVars: false, keepTime: true }],
    templating: { list: dashboard.variables.map((name) => VARIABLES[name]) },
    annotations: { list: [{ name: "Alerts", datasource: SOURCE, enable: true, expr: 'ALERTS{alertstate="firing", severity="page"}', titleFormat: "{{alertname}}", textFormat: "{{instance}}", iconColor: "red" }] },
    panels: rows(dashboard),
  };
}

const check = process.argv.includes("--check");
for (const dashboard of dashboards) {
  const file = new URL(`dashboards/${dashboard.file}.json`, import.meta.url);
  const made = `${JSON.stringify(grafana(dashboard), null, 1)}\n`;
  if (!check) writeFileSync(file, made);
  else if (readFileSync(file, "utf8") !== made) {
    console.error(`dashboards/${dashboard.file}.json is not what panels.mjs says: run node deploy/grafana/build.mjs`);
    process.exitCode = 1;
  }
}
