// Keeps the page of a site up to date, and tries a search through the public way.
import { unpressed } from "./press.js";
import { localizeTimes } from "./time.js";

// Figures change all the time; the page is drawn anew at most so often, and at once when the state has changed.
const AT_MOST_EVERY_MS = 5000;

const heading = document.getElementById("site-heading");
const site = heading.dataset.site;
let drawn = Date.now();
let waiting;

async function drawAgain() {
  waiting = undefined;
  drawn = Date.now();
  try {
    const answer = await fetch(location.pathname, { headers: { accept: "text/html" } });
    if (answer.redirected || !answer.ok) return location.reload();
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    await unpressed();
    for (const old of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(old.id);
      if (!fresh) continue;
      old.replaceWith(document.adoptNode(fresh));
      localizeTimes(fresh);
    }
  } catch {
    // The relay is away; the stream comes back with it.
  }
}

const source = new EventSource("/api/v1/events");
source.addEventListener("board", (event) => {
  const message = JSON.parse(event.data);
  if ((message.removed ?? []).includes(site)) return location.assign("/");
  const change = (message.sites ?? []).find((one) => one.site === site);
  if (!change) return;
  const wait = "state" in change || "agents" in change ? 0 : Math.max(0, drawn + AT_MOST_EVERY_MS - Date.now());
  if (wait === 0) clearTimeout(waiting);
  if (wait === 0 || !waiting) waiting = setTimeout(drawAgain, wait);
});
addEventListener("pagehide", () => source.close());
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

const form = document.getElementById("try-form");
form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const status = document.getElementById("try-status");
  const results = document.getElementById("try-results");
  status.textContent = "…";
  results.replaceChildren();
  const fields = new URLSearchParams({
    callid: document.getElementById("try-call").value.trim(),
    token: document.getElementById("try-token").value.trim(),
  });
  try {
    const answer = await fetch(form.dataset.search, { method: "POST", body: fields, credentials: "omit" });
    const found = await answer.json();
    if (!answer.ok) {
      status.textContent = found.detail ?? form.dataset.failed;
      return;
    }
    for (const file of found.files) results.append(player(file));
    const notes = [];
    if (found.files.length === 0) notes.push(form.dataset.none);
    if (!found.complete) notes.push(form.dataset.incomplete);
    status.textContent = notes.join(" ");
  } catch {
    status.textContent = form.dataset.failed;
  }
});

function player(file) {
  const element = document.getElementById("try-player").content.firstElementChild.cloneNode(true);
  const audio = element.querySelector("audio");
  element.querySelector("strong").textContent = file.filename;
  audio.src = file.url;
  audio.setAttribute("aria-label", file.filename);
  element.querySelector("select").addEventListener("change", (event) => {
    audio.playbackRate = Number(event.target.value);
  });
  return element;
}
