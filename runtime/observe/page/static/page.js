"use strict";

const byId = (id) => document.getElementById(id);
const WINDOW_S = 0.02;
const HISTORY_S = 10;
const TIMELINE_S = 1;
const LASTS_S = 0.1;

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function pen(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "12px system-ui, 'DejaVu Sans', sans-serif";
  return { context, width, height };
}

function path(context, points, stroke, width, dash) {
  if (points.length < 2) return;
  context.beginPath();
  points.forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.setLineDash(dash || []);
  context.strokeStyle = stroke;
  context.lineWidth = width;
  context.lineCap = "round";
  context.stroke();
  context.setLineDash([]);
}

// The vehicle drives up the picture; the world turns under it.
function drawTop(guard) {
  const { context, width, height } = pen(byId("top"));
  const view = guard && guard.view;
  if (!view) {
    context.fillStyle = color("--quiet");
    context.textAlign = "center";
    context.fillText("No vehicle is driven at present", width / 2, height / 2);
    return;
  }
  const [x0, y0, heading] = view.pose;
  const scale = Math.min(width / 46, height / 62);
  const cosine = Math.cos(heading), sine = Math.sin(heading);
  const place = ([x, y]) => {
    const ahead = (x - x0) * cosine + (y - y0) * sine, left = -(x - x0) * sine + (y - y0) * cosine;
    return [width / 2 - left * scale, height * 0.8 - ahead * scale];
  };
  context.textAlign = "left";
  for (const ring of [10, 20, 30, 40]) {
    context.beginPath();
    context.arc(width / 2, height * 0.8, ring * scale, Math.PI, 2 * Math.PI);
    context.strokeStyle = color("--line");
    context.lineWidth = 1;
    context.stroke();
  }
  for (const [x, y, radius] of view.obstacles) {
    const [px, py] = place([x, y]);
    context.beginPath();
    context.arc(px, py, Math.max(2, radius * scale), 0, 2 * Math.PI);
    context.fillStyle = color("--obstacle");
    context.fill();
    context.strokeStyle = color("--card");
    context.lineWidth = 1.5;
    context.stroke();
  }
  context.fillStyle = color("--quiet");
  for (const ring of [10, 20, 30, 40]) {
    const across = width / 2 + 0.5 * ring * scale, up = height * 0.8 - 0.866 * ring * scale;
    context.fillText(`${ring} m`, across + 5, up - 3);
  }
  path(context, view.held.slice(view.certain).map(place), color("--held"), 3, [1, 6]);
  path(context, view.backup.map(place), color("--backup"), 3, [9, 6]);
  path(context, view.held.slice(0, view.certain + 1).map(place), color("--held"), 4);
  const length = 4.2 * scale, breadth = 1.8 * scale;
  context.fillStyle = guard.mode === "backup" ? color("--backup") : color("--ink");
  context.beginPath();
  context.roundRect(width / 2 - breadth / 2, height * 0.8 - length / 2, breadth, length, breadth / 4);
  context.fill();
}

// Each value lasts until the next, or until it is too old to.
function drawSeries(id, rows, marks, share, paint) {
  const { context, width, height } = pen(byId(id));
  const right = width - 56, base = height - 4;
  context.strokeStyle = color("--line");
  context.fillStyle = color("--quiet");
  context.textAlign = "left";
  for (const [value, label] of marks) {
    const y = base - share(value) * (height - 14);
    context.beginPath();
    context.moveTo(0, y);
    context.lineTo(right, y);
    context.lineWidth = 1;
    context.stroke();
    context.fillText(label, right + 5, y + 4);
  }
  rows.forEach(([at, value, kind], index) => {
    const next = index + 1 < rows.length ? rows[index + 1][0] : at + WINDOW_S;
    const until = Math.min(next, at + LASTS_S, 0);
    const x = Math.max(0, Math.round(right * (1 + at / HISTORY_S))), end = Math.round(right * (1 + until / HISTORY_S));
    if (end <= x) return;
    const y = base - Math.max(share(value) * (height - 14), 2);
    context.fillStyle = paint(kind);
    context.fillRect(x, y, end - x, base - y + 1);
  });
}

const hues = new Map();
function hue(name) {
  if (!hues.has(name)) hues.set(name, `--s${hues.size % 6}`);
  return color(hues.get(name));
}

function drawDevices(state) {
  const names = [...new Set([...Object.keys((state.daemon && state.daemon.queued) || {}), ...state.segments.map((row) => row[2])])].sort();
  const canvas = byId("devices");
  const wanted = `${Math.max(1, names.length) * 30 + 44}px`;
  if (canvas.style.height !== wanted) canvas.style.height = wanted;
  const { context, width, height } = pen(canvas);
  const left = 90, span = width - left - 8;
  context.textAlign = "left";
  names.forEach((name, row) => {
    context.fillStyle = color("--ink");
    context.fillText(name, 0, row * 30 + 17);
    context.fillStyle = color("--line");
    context.fillRect(left, row * 30 + 2, span, 22);
  });
  const seen = new Set();
  for (const [at, run, device, segment] of state.segments) {
    const x = left + span * (1 + at / TIMELINE_S);
    if (x + (span * run) / TIMELINE_S < left) continue;
    seen.add(segment);
    context.fillStyle = hue(segment);
    const from = Math.max(left, x);
    context.fillRect(from, names.indexOf(device) * 30 + 2, Math.max(1.2, x + (span * run) / TIMELINE_S - from), 22);
  }
  let x = left;
  for (const segment of [...seen].sort()) {
    context.fillStyle = hue(segment);
    context.fillRect(x, height - 20, 11, 11);
    context.fillStyle = color("--quiet");
    context.fillText(segment, x + 16, height - 10);
    x += context.measureText(segment).width + 36;
  }
}

function text(id, value) {
  const element = byId(id);
  if (element.textContent !== value) element.textContent = value;
}

function pill(id, value, kind) {
  text(id, value);
  byId(id).dataset.kind = kind;
}

function rows(id, items) {
  const root = byId(id);
  const key = JSON.stringify(items);
  if (root.dataset.key === key) return;
  root.dataset.key = key;
  root.replaceChildren(
    ...items.flatMap(([name, value, share]) => {
      const label = document.createElement("span");
      label.className = "name";
      label.textContent = name;
      const figure = document.createElement(share === undefined ? "span" : "b");
      figure.textContent = value;
      if (share === undefined) {
        figure.className = "wide";
        return [label, figure];
      }
      const meter = document.createElement("meter");
      meter.value = share;
      return [label, meter, figure];
    })
  );
}

function shares(counts) {
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0) || 1;
  return Object.entries(counts).map(([name, count]) => [name, `${count}`, count / total]);
}

const plain = (word) => String(word).replaceAll("_", " ").replaceAll(":", " ");
const byDecades = (seconds) => Math.min(1, Math.max(0, Math.log10(Math.max(seconds, 0.01) / 0.01) / 3));

function showHead(state) {
  const { daemon, guard } = state;
  if (!daemon) pill("link-state", "no daemon", "bad");
  else pill("link-state", daemon.ready ? "ready" : "not ready", daemon.ready ? "good" : "warn");
  if (!guard) pill("mode", "no guard", "bad");
  else if (!guard.driven) pill("mode", "no vehicle", "off");
  else pill("mode", `${guard.mode}: ${plain(guard.reason)}`, guard.mode === "backup" ? "bad" : guard.intervened ? "warn" : "good");
  const parts = [];
  if (guard) parts.push(`vehicle ${guard.vehicle}`, guard.certificate ? `certificate ${guard.certificate.slice(0, 12)}` : "no certificate");
  if (daemon) parts.push(`up ${Math.floor(daemon.uptime_s / 60)} min ${Math.floor(daemon.uptime_s % 60)} s`);
  text("about", parts.join("  ·  "));
}

function duration(seconds) {
  return seconds >= 1 ? `${seconds.toFixed(1)} s` : `${(1e3 * seconds).toFixed(0)} ms`;
}

function showDeadline(guard, history) {
  const driven = guard && guard.driven;
  const bar = byId("deadline-bar");
  text("deadline", driven ? duration(guard.deadline_s) : "–");
  const why = driven && (guard.exceeded ? `${guard.exceeded} exceeded: the vehicle slows down` : `limited by ${plain(guard.limited_by)}`);
  text("deadline-why", why || "");
  const share = driven ? byDecades(guard.deadline_s) : 0;
  bar.style.transform = `scaleX(${share})`;
  bar.dataset.kind = share < byDecades(0.04) ? "bad" : share < byDecades(0.12) ? "warn" : "good";
  drawSeries("deadlines", history, [[0.01, "10 ms"], [0.1, "100 ms"], [1, "1 s"], [10, "10 s"]], byDecades,
    (mode) => color(mode === "backup" ? "--bad" : "--held"));
}

function showEnergy(energy) {
  const mean = energy.reduce((sum, row) => sum + row[1], 0) / (energy.length || 1);
  text("energy", energy.length ? mean.toFixed(1) : "–");
  const top = Math.max(10, ...energy.map((row) => row[1]));
  const marks = [0, 0.5 * top, top].map((value) => [value, `${+value.toPrecision(3)}`]);
  drawSeries("energies", energy, marks, (value) => value / top, (action) => color(action.includes("local") ? "--held" : "--s1"));
}

function showEdge(state) {
  const items = [];
  const edge = state.daemon && state.daemon.edge;
  items.push(["edge server", edge ? `${edge.endpoint}, ${edge.state}${edge.reason ? `: ${edge.reason}` : ""}` : "none"]);
  if (edge) items.push(["round trip", `${edge.rtt_ms.toFixed(2)} ms`]);
  if (state.daemon) items.push(["policy", state.daemon.policy]);
  for (const [name, count, share] of shares(state.windows)) items.push([`${plain(name)}`, count, share]);
  rows("edge", items);
}

function show(state) {
  showHead(state);
  drawTop(state.guard);
  text("speed", state.guard && state.guard.speed_mps != null ? `${state.guard.speed_mps.toFixed(1)} m/s` : "");
  showDeadline(state.guard, state.deadlines);
  const exits = shares(state.exits);
  rows("exits", exits.length ? exits : [["", "No answer yet"]]);
  showEnergy(state.energy);
  showEdge(state);
  drawDevices(state);
}

let latest = null, drawn = null;
const source = new EventSource("live");
source.onmessage = (event) => { latest = JSON.parse(event.data); };
source.onerror = () => pill("link-state", "connection lost", "bad");
function frame() {
  if (latest !== drawn) { drawn = latest; show(latest); }
  requestAnimationFrame(frame);
}
requestAnimationFrame(frame);
