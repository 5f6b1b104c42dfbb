// The console's charts. Each [data-chart] element carries its data in data-value.
"use strict";

const COLOURS = {
  raw: "#8a6d3b", unread: "#c9b68a", clean: "#0b6e5f", quarantine: "#b42318", quality: "#d08a3e",
  features: "#2f7fb5", models: "#7a4fb0", evaluations: "#b79ad6", indexes: "#3f8f4f",
  reports: "#64748b", releases: "#101828",
};
const TEXT = { fontFamily: getComputedStyle(document.body).fontFamily, color: "#1d2327" };
const escapeHtml = (text) =>
  String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const decimals = (value) => (value === null ? "" : value.toFixed(4));

function lineage(graph, element) {
  // coordinates in pixels of the element, so that nothing is stretched
  const width = element.clientWidth - 180;
  const height = element.clientHeight - 60;
  const across = Math.max(1, graph.columns - 1);
  const inColumn = new Map();
  for (const node of graph.nodes) inColumn.set(node.column, (inColumn.get(node.column) || 0) + 1);
  return {
    textStyle: TEXT,
    tooltip: {
      formatter: (at) =>
        at.dataType === "edge"
          ? `${escapeHtml(at.data.source)} → ${escapeHtml(at.data.target)}`
          : `<b>${escapeHtml(at.name)}</b><br>${escapeHtml(at.data.version || "")}` +
            (at.data.rows === null ? "" : `<br>${at.data.rows.toLocaleString()}`),
    },
    series: [
      {
        type: "graph",
        layout: "none",
        left: 80, right: 100, top: 26, bottom: 34,
        preserveAspect: "contain",
        symbol: "circle",
        symbolSize: 15,
        edgeSymbol: ["none", "arrow"],
        edgeSymbolSize: 7,
        emphasis: { focus: "adjacency", lineStyle: { width: 2.5 } },
        lineStyle: { color: "#b6beb8", width: 1.2, curveness: 0.08 },
        label: { show: true, position: "bottom", distance: 3, fontSize: 11, color: "#1d2327" },
        data: graph.nodes.map((node) => ({
          name: node.name,
          x: (width * node.column) / across,
          // columns are centred, and neighbours stand a little apart so that labels do not meet
          y: ((node.row + 1) / (inColumn.get(node.column) + 1)) * height + (node.column % 2 ? 12 : 0),
          rows: node.rows,
          version: node.version,
          symbolSize: node.focus ? 22 : 15,
          itemStyle: { color: COLOURS[node.layer] || "#64748b", borderColor: "#fff", borderWidth: 2 },
          label: node.focus ? { fontWeight: 700 } : {},
        })),
        edges: graph.edges.map((edge) => ({ source: edge.from, target: edge.to })),
      },
    ],
  };
}

function intervals(rows) {
  const models = rows.map((row) => row.model).reverse();
  const ordered = [...rows].reverse();
  return {
    textStyle: TEXT,
    grid: { left: 10, right: 30, top: 10, bottom: 10, containLabel: true },
    tooltip: {
      formatter: (at) => {
        const row = ordered[at.dataIndex];
        return `<b>${escapeHtml(row.model)}</b><br>${decimals(row.value)} (${decimals(row.low)}–${decimals(row.high)})`;
      },
    },
    xAxis: { type: "value", min: 0, splitLine: { lineStyle: { color: "#eceeea" } } },
    yAxis: { type: "category", data: models, axisTick: { show: false }, axisLine: { show: false } },
    series: [
      {
        type: "custom",
        data: ordered.map((row, n) => [row.low, row.high, n]),
        encode: { x: [0, 1], y: 2 },
        silent: true,
        renderItem: (_, api) => {
          const [low, high] = [api.coord([api.value(0), api.value(2)]), api.coord([api.value(1), api.value(2)])];
          const colour = ordered[api.value(2)].floor ? "#a9b2ac" : "#0b6e5f";
          const style = { stroke: colour, lineWidth: 2 };
          return {
            type: "group",
            children: [
              { type: "line", shape: { x1: low[0], y1: low[1], x2: high[0], y2: high[1] }, style },
              { type: "line", shape: { x1: low[0], y1: low[1] - 5, x2: low[0], y2: low[1] + 5 }, style },
              { type: "line", shape: { x1: high[0], y1: high[1] - 5, x2: high[0], y2: high[1] + 5 }, style },
            ],
          };
        },
      },
      {
        type: "scatter",
        symbolSize: 13,
        data: ordered.map((row, n) => ({
          value: [row.value, n],
          itemStyle: { color: row.floor ? "#a9b2ac" : "#0b6e5f" },
        })),
        label: { show: true, position: "top", formatter: (at) => decimals(at.value[0]), fontSize: 11 },
      },
    ],
  };
}

function curves(lines) {
  const names = lines.map((line) => `${line.model} ${line.metric}`);
  return {
    textStyle: TEXT,
    color: ["#0b6e5f", "#b3541e", "#2f7fb5", "#7a4fb0", "#d08a3e", "#3f8f4f", "#b42318", "#64748b"],
    grid: { left: 10, right: 24, top: 46, bottom: 10, containLabel: true },
    legend: { data: names, top: 4, type: "plain" },
    tooltip: { trigger: "axis", valueFormatter: decimals },
    xAxis: { type: "value", minInterval: 1, min: "dataMin", max: "dataMax", splitLine: { show: false } },
    yAxis: { type: "value", splitLine: { lineStyle: { color: "#eceeea" } } },
    series: lines.map((line, n) => ({
      type: "line",
      name: names[n],
      data: line.points,
      symbolSize: 6,
      smooth: false,
    })),
  };
}

function trend(told) {
  const share = (value) => (value === null ? "" : `${(100 * value).toFixed(2)}%`);
  return {
    textStyle: TEXT,
    color: ["#b42318", "#b3541e", "#2f7fb5", "#7a4fb0", "#0b6e5f", "#64748b"],
    grid: { left: 10, right: 24, top: 46 + 22 * Math.floor(told.lines.length / 6), bottom: 10, containLabel: true },
    legend: { top: 4, type: "plain" },
    tooltip: {
      trigger: "axis",
      formatter: (all) =>
        [all[0].axisValueLabel]
          .concat(all.map((at) => (at.seriesType === "scatter" ? `${at.marker}<b>${escapeHtml(at.seriesName)}</b>`
            : at.value === null ? "" : `${at.marker}${escapeHtml(at.seriesName)}: ${share(at.value)}`)).filter((text) => text))
          .join("<br>"),
    },
    xAxis: { type: "category", data: told.times.map((at) => at.slice(0, 16).replace("T", " ")) },
    yAxis: { type: "value", axisLabel: { formatter: share }, splitLine: { lineStyle: { color: "#eceeea" } } },
    series: told.lines
      .map((line) => ({ type: "line", name: line.name, data: line.points, symbolSize: 7, showAllSymbol: true, connectNulls: true }))
      .concat(told.marks.filter((mark) => mark.points.length).map((mark) => ({
        type: "scatter", // a run that made no version stands on the axis
        name: mark.name,
        symbol: mark.state === "stopped" ? "rect" : "triangle",
        symbolSize: 15,
        itemStyle: { color: mark.state === "stopped" ? "#b3541e" : "#b42318" },
        z: 5,
        data: mark.points.map((at) => [at, 0]),
      }))),
  };
}

const KINDS = { lineage, intervals, curves, trend };

function draw(element) {
  const data = JSON.parse(element.dataset.value);
  if (element.dataset.chart === "lineage") {
    element.style.height = `${Math.max(260, Math.min(620, data.tallest * 52 + 60))}px`;
    element.style.minWidth = `${Math.max(560, data.columns * 150)}px`;
  }
  if (element.dataset.chart === "intervals") element.style.height = `${60 + data.length * 46}px`;
  const chart = echarts.init(element, null, { renderer: "svg" });
  chart.setOption(KINDS[element.dataset.chart](data, element));
  if (element.dataset.chart === "lineage") {
    chart.on("click", (at) => {
      if (at.dataType === "node") location.href = `/console/assets/${encodeURIComponent(at.name)}${element.dataset.walk || ""}`;
    });
  }
  new ResizeObserver(() => {
    chart.resize();
    if (element.dataset.chart === "lineage") chart.setOption(lineage(data, element));
  }).observe(element);
  element.dataset.drawn = "yes";
}

for (const element of document.querySelectorAll("[data-chart]")) draw(element);
