// The map is drawn from one JSON route; everything else stands in the page. Whatever changes (the
// colours, the search, what is selected) is a URL: its page is asked, and its parts take the place
// of ours, so that with and without this script the same is shown.

import { obey } from "./gestures.js";
import { Plane } from "./plane.js";

const PARTS = ["summary", "kept", "legend", "found", "selected"];
const RETRY_MS = 3000;

const part = (id) => document.getElementById(id);
const form = part("ask");
const told = part("pointed");

part("drawing").hidden = false;
const plane = new Plane(part("plane"));
let columns = { item_id: [], groups: {} };
let release;
let pointOf = new Map();
let numAsked = 0;

// What the page says, onto the drawing.
function show() {
  const named = (key) => [...document.querySelectorAll(`[data-${key}]`)].map((one) => one.dataset[key]);
  const points = (key) => named(key).map((itemId) => pointOf.get(itemId) ?? -1);
  const isDrawn = (point) => point >= 0;
  plane.points.group = columns.groups[named("colour")[0]] ?? [];
  plane.colours = [...part("legend").querySelectorAll(".swatch")].map(
    (one) => getComputedStyle(one).backgroundColor,
  );
  plane.marks = {
    selected: points("selected")[0] ?? -1,
    near: points("near")
      .map((point, row) => ({ point, number: row + 1 }))
      .filter((one) => isDrawn(one.point)),
    found: points("found").filter(isDrawn),
  };
  plane.change();
}

// After the page changed: another release has other points.
function follow() {
  const shown = part("release").dataset.release;
  if (shown === release) return show();
  release = shown;
  load();
}

async function load() {
  const ofRelease = [...new FormData(form)].filter(([key]) => key === "label" || key === "version");
  try {
    const answer = await fetch(`/map/points.json?${new URLSearchParams(ofRelease)}`);
    if (!answer.ok) throw new Error(answer.statusText);
    columns = await answer.json();
  } catch {
    told.textContent = "The points cannot be had at the moment. Trying again.";
    return void setTimeout(load, RETRY_MS);
  }
  told.textContent = "";
  const ids = columns.item_id.map(String);
  pointOf = new Map(ids.map((itemId, point) => [itemId, point]));
  const labels = columns.title.map((title, point) => title ?? ids[point]);
  plane.points = { x: columns.x, y: columns.y, group: [], labels };
  plane.pointed = -1;
  plane.fit();
  show();
}

// Another state of this page. Where it cannot be had in parts, the whole page is asked.
async function go(url, { isNew = true } = {}) {
  const number = ++numAsked;
  const answer = await fetch(url).catch(() => null);
  if (number !== numAsked) return; // something else was asked meanwhile
  if (!answer?.ok) return location.assign(url);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of PARTS) {
    const hadFocus = part(id).contains(document.activeElement);
    part(id).replaceChildren(...fresh.getElementById(id).childNodes);
    if (hadFocus) part(id).focus();
  }
  if (isNew) history.pushState(null, "", url);
  follow();
  if (plane.marks.selected >= 0) plane.reveal(plane.marks.selected);
}

function select(point) {
  if (point < 0) return;
  const asked = new URLSearchParams(location.search);
  asked.set("item_id", columns.item_id[point]);
  go(`/map?${asked}`);
}

function name(point) {
  if (point === plane.pointed) return;
  plane.pointed = point;
  told.textContent = plane.points.labels[point] ?? "";
  plane.change();
}

obey(part("plane"), plane, { name, select });

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const filled = [...new FormData(form)].filter(([, value]) => value !== "");
  go(`/map?${new URLSearchParams(filled)}`);
});
form.elements.colour.addEventListener("change", () => form.requestSubmit());

document.addEventListener("click", (event) => {
  const link = event.target.closest("#found a, #selected a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (link.pathname !== location.pathname) return;
  event.preventDefault();
  go(link.href);
});

addEventListener("popstate", () => {
  const asked = new URLSearchParams(location.search);
  form.elements.search.value = asked.get("search") ?? "";
  form.elements.colour.value = asked.get("colour") ?? form.elements.colour.options[0].value;
  go(location.href, { isNew: false });
});

document.addEventListener("renewed", follow);
new MutationObserver(show).observe(document.documentElement, { attributeFilter: ["data-theme"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);

follow();
