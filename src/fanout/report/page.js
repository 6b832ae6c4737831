"use strict";
// Draws what the data block holds, in the colours of the page, and again when those change.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 760px)");

  // plotly reads tags and entities in its labels: text that is not ours must hold none.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  const palette = () => dark.matches
    ? { ink: "#e6eaf0", dim: "#9aa6b6", line: "#2d3744", card: "#1a212b", blue: "#7aacff", green: "#4ccb7f",
        red: "#ff7b80", amber: "#f0b850", violet: "#c39bff", grey: "#8792a2", teal: "#45c5c0" }
    : { ink: "#1c2430", dim: "#5b6676", line: "#e4e8ed", card: "#ffffff", blue: "#1d5fd0", green: "#15803d",
        red: "#c2262e", amber: "#d18a00", violet: "#7a3fc4", grey: "#7b8696", teal: "#0b8681" };

  const clear = (hex, share) => hex + Math.round(share * 255).toString(16).padStart(2, "0");

  const longest = Math.max(1, ...data.course.t);
  const [unit, unit_s] = longest > 7200 ? ["hours", 3600] : longest > 180 ? ["minutes", 60] : ["seconds", 1];
  const times = (list) => list.map((t) => t / unit_s);
  const t = times(data.course.t);

  const layout = (c, more) => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: c.ink, size: 12,
      family: "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif" },
    margin: { l: 52, r: 10, t: 8, b: 38 }, hovermode: "x unified", showlegend: true,
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 } },
    hoverlabel: { bgcolor: c.card, bordercolor: c.line, font: { color: c.ink, size: 12 } },
    ...more,
  });
  const axis = (c, title, more) => ({ gridcolor: c.line, linecolor: c.line, zeroline: false, tickcolor: c.line,
    title: { text: title, font: { size: 11, color: c.dim }, standoff: 6 }, automargin: true, ...more });
  const timeAxis = (c) => axis(c, `running time, ${unit}`, { rangemode: "tozero" });
  // 1, 2 and 5 of each power of ten, in words: plotly's own ticks on short logarithmic axes say too little.
  const logTicks = () => {
    const vals = [], text = [];
    for (let power = -3; power <= 9; power++) {
      for (const digit of [1, 2, 5]) {
        const ms = Number(`${digit}e${power}`);
        vals.push(ms);
        text.push(ms >= 1000 ? `${(ms / 1000).toLocaleString("en-US")} s` : `${ms} ms`);
      }
    }
    return { type: "log", tickmode: "array", tickvals: vals, ticktext: text };
  };
  const slow = Math.max(0, ...data.course.p99) >= 10000;
  const [latencyUnit, latency_ms] = slow ? ["seconds", 1000] : ["milliseconds", 1];
  const latencies = (list) => list.map((ms) => ms === null ? null : ms / latency_ms);
  const few = t.length < 20 ? "lines+markers" : "lines";
  const line = (name, y, color, more) => ({ type: "scatter", mode: few, name, x: t, y, connectgaps: false,
    line: { color, width: 2 }, marker: { size: 5, color }, ...more });

  const figures = {
    flight: (c) => [[
      line("in flight", data.course.in_flight, c.blue, { fill: "tozeroy", fillcolor: clear(c.blue, .15),
        hovertemplate: "%{y:,.0f}" }),
      line("limit", data.course.limit, c.amber, { line: { color: c.amber, width: 2, dash: "dot" },
        text: data.course.cause.map(plain), hovertemplate: "%{y:,.0f} (%{text})" }),
    ], layout(c, { xaxis: timeAxis(c), yaxis: axis(c, "calls", { rangemode: "tozero" }) })],

    throughput: (c) => [[
      line("did not succeed", data.course.failed_per_s, c.red, { stackgroup: "all", fillcolor: clear(c.red, .5),
        hovertemplate: "%{y:,.1f}/s" }),
      line("succeeded", data.course.succeeded_per_s, c.green, { stackgroup: "all", fillcolor: clear(c.green, .2),
        hovertemplate: "%{y:,.1f}/s" }),
    ], layout(c, { xaxis: timeAxis(c), yaxis: axis(c, "records per second", { rangemode: "tozero" }) })],

    latency: (c) => [[
      line("p99", latencies(data.course.p99), c.red, { hovertemplate: "%{y:,.1f}" }),
      line("p95", latencies(data.course.p95), c.amber, { hovertemplate: "%{y:,.1f}" }),
      line("p50", latencies(data.course.p50), c.blue, { hovertemplate: "%{y:,.1f}" }),
    ], layout(c, { xaxis: timeAxis(c), yaxis: axis(c, latencyUnit, { rangemode: "tozero" }) })],

    histogram: (c) => {
      // Steps, not bars: on a logarithmic axis plotly draws bars of unequal width off their places.
      const { edges, counts } = data.histogram;
      const steps = { x: [], y: [], text: [] };
      counts.forEach((count, i) => {
        steps.x.push(edges[i], edges[i + 1]);
        steps.y.push(count, count);
        const label = `${edges[i].toPrecision(3)} to ${edges[i + 1].toPrecision(3)} ms`;
        steps.text.push(label, label);
      });
      return [[{ type: "scatter", mode: "lines", fill: "tozeroy", name: "calls", ...steps, fillcolor: clear(c.blue, .3),
        line: { color: c.blue, width: 1.5 }, hovertemplate: "%{text}: %{y:,.0f} calls<extra></extra>" }],
      layout(c, { showlegend: false, hovermode: "closest", xaxis: axis(c, "duration, logarithmic", logTicks()),
        yaxis: axis(c, "calls", { rangemode: "tozero" }) })];
    },

    executions: (c) => {
      const looks = { succeeded: [c.green, "circle"], accepted: [c.green, "circle"], valid: [c.green, "circle"],
        "cold start": [c.blue, "diamond"], function_error: [c.red, "x"], rejected: [c.violet, "square"],
        undelivered: [c.amber, "triangle-up"], unknown: [c.grey, "star"] };
      const traces = Object.keys(looks).filter((name) => data.executions[name]).map((name) => {
        const group = data.executions[name];
        const good = name === "succeeded" || name === "accepted" || name === "valid";
        return { type: "scatter", mode: "markers", name: name.replace("_", " "), x: times(group.t), y: group.ms,
          marker: { color: looks[name][0], symbol: looks[name][1], size: good ? 5 : 7, opacity: good ? .55 : .9 },
          text: group.name.map((label, i) => plain(label) +
            (group.init_ms[i] === null ? "" : `, ${group.init_ms[i].toFixed(0)} ms of it to initialize`)),
          hovertemplate: "%{text}: %{y:,.1f} ms<extra></extra>" };
      });
      return [traces, layout(c, { hovermode: "closest", xaxis: timeAxis(c),
        yaxis: axis(c, "duration, logarithmic", logTicks()) })];
    },

    throttles: (c) => {
      const colors = [c.amber, c.red, c.violet, c.teal, c.blue, c.grey];
      const traces = Object.entries(data.course.throttles).map(([reason, y], i) => ({ type: "bar", x: t, y,
        name: plain(reason), marker: { color: colors[i % colors.length] }, hovertemplate: "%{y:,.1f}/s" }));
      return [traces, layout(c, { barmode: "stack", bargap: 0, xaxis: timeAxis(c),
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: narrow.matches ? 9 : 11 } },
        yaxis: axis(c, "throttles per second", { rangemode: "tozero" }) })];
    },

    attempts: (c) => {
      const names = Object.keys(data.attempts);
      return [[{ type: "bar", x: names, y: Object.values(data.attempts), marker: { color: c.teal },
        text: Object.values(data.attempts).map((n) => n.toLocaleString("en-US")), textposition: "outside",
        cliponaxis: false, hovertemplate: "%{x} attempts: %{y:,} records<extra></extra>", width: .5 }],
      layout(c, { showlegend: false, hovermode: "closest", margin: { l: 52, r: 10, t: 24, b: 38 },
        xaxis: axis(c, "attempts", { type: "category" }),
        yaxis: axis(c, "records, logarithmic", { type: "log", dtick: 1, rangemode: "tozero" }) })];
    },
  };

  const draw = () => {
    const c = palette();
    for (const [name, make] of Object.entries(figures)) {
      const place = document.getElementById(`plot-${name}`);
      if (place.closest("[hidden]")) continue;
      const [traces, look] = make(c);
      Plotly.react(place, traces, look, { responsive: true, displayModeBar: false, displaylogo: false });
    }
    document.body.dataset.drawn = dark.matches ? "dark" : "light";
  };
  draw();
  dark.addEventListener("change", draw);
  narrow.addEventListener("change", draw);
})();
