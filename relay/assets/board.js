// Keeps the board up to date: the relay sends what has changed, and only that.
import { unpressed } from "./press.js";
import { localizeTimes } from "./time.js";

const language = document.documentElement.lang;
const whole = new Intl.NumberFormat(language);
const tenth = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
// Changes that need the page drawn anew gather for so long.
const GATHER_MS = 500;
const TYPING_MS = 250;

let board = document.getElementById("board");
let stateNames = JSON.parse(board.dataset.states);
let redrawing;

function size(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit + 1 < units.length) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 10 ? whole.format(Math.trunc(value)) : tenth.format(value)}\u00a0${units[unit]}`;
}

const draw = {
  state(cell, state) {
    cell.className = `state state-${state}`;
    cell.textContent = stateNames[state] ?? state;
  },
  since(cell, moment) {
    const time = document.createElement("time");
    time.dateTime = moment;
    cell.replaceChildren(time);
    localizeTimes(cell);
  },
  rtt_ms(cell, ms) {
    cell.textContent = ms === null ? "" : `${tenth.format(ms)}\u00a0ms`;
  },
  bytes_per_second(cell, bytes) {
    cell.textContent = bytes > 0 ? `${size(bytes)}/s` : "";
  },
  open_streams(cell, count) {
    cell.textContent = whole.format(count);
  },
  searches_last_hour(cell, count) {
    cell.textContent = whole.format(count);
  },
  errors_last_hour(cell, count) {
    cell.textContent = whole.format(count);
    cell.classList.toggle("bad", count > 0);
  },
};
// What is drawn by the relay alone: its words and shapes are more than a number.
const drawnThere = ["agents", "recordings", "note", "refused_last_hour", "access_changes"];

function apply(change) {
  const row = board.querySelector(`tr[data-site="${CSS.escape(change.site)}"]`);
  if (!row) return "state" in change;
  for (const [field, value] of Object.entries(change)) {
    const cell = row.querySelector(`[data-field="${field}"]`);
    if (cell && draw[field]) draw[field](cell, value);
  }
  return drawnThere.some((field) => field in change);
}

function take(event) {
  const message = JSON.parse(event.data);
  let redraw = Boolean(message.relay) || (message.removed ?? []).length > 0;
  for (const change of message.sites ?? []) redraw = apply(change) || redraw;
  for (const [state, count] of Object.entries(message.totals ?? {})) {
    const total = document.querySelector(`[data-total="${state}"]`);
    if (total) total.textContent = whole.format(count);
  }
  if (redraw) redrawing ??= setTimeout(fetchAgain, GATHER_MS);
}

// Fetches this very page and puts its board in the place of this one, with the filters, whose addresses hold what is
// searched for; what is typed and focused stays.
async function fetchAgain() {
  redrawing = undefined;
  const address = location.href;
  try {
    const answer = await fetch(address, { headers: { accept: "text/html" } });
    if (answer.redirected) return location.reload();
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    await unpressed();
    if (location.href !== address) return; // Something else was asked for meanwhile, and its answer may be here already.
    for (const id of ["board", "relay-health", "filters"]) {
      const fresh = page.getElementById(id);
      const old = document.getElementById(id);
      if (!fresh || !old || fresh.isEqualNode(old)) continue;
      const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      old.replaceWith(document.adoptNode(fresh));
      if (focused) fresh.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
    }
  } catch {
    return; // The relay is away; the stream comes back with it.
  }
  board = document.getElementById("board");
  stateNames = JSON.parse(board.dataset.states);
  localizeTimes(board);
}

const source = new EventSource(`/api/v1/events?seen=${encodeURIComponent(board.dataset.number)}`);
source.addEventListener("board", take);
addEventListener("pagehide", () => source.close());
// A page that comes back from the browser's memory is old.
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

const search = document.getElementById("board-search");
let typing;
search.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    const query = new URLSearchParams(new FormData(search));
    for (const [name, value] of [...query]) if (!value) query.delete(name);
    history.replaceState(null, "", `/?${query}`);
    fetchAgain();
  }, TYPING_MS);
});
