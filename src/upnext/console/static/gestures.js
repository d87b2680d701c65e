// Mouse, fingers and keys on a plane. `name` is told which point is meant, `select` which is chosen;
// -1 is none.

const REACH = 12;
const FINGER_REACH = 24;
const KEYBOARD_REACH = 60;
const KEY_STEP = 60;
const KEY_ZOOM = 1.4;

export function obey(canvas, plane, { name, select }) {
  const held = new Map();
  let travelled = 0;

  const at = (event) => ({ x: event.offsetX, y: event.offsetY });
  const reach = (event) => (event.pointerType === "touch" ? FINGER_REACH : REACH);
  const inTheMiddle = () => plane.nearest(plane.width / 2, plane.height / 2, KEYBOARD_REACH);

  // The middle of all fingers, and how far apart two of them are.
  function grip() {
    const [a, b = a] = [...held.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.hypot(a.x - b.x, a.y - b.y) };
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    if (!held.size) travelled = 0;
    held.set(event.pointerId, at(event));
  });

  canvas.addEventListener("pointermove", (event) => {
    if (!held.has(event.pointerId)) return name(plane.nearest(event.offsetX, event.offsetY, REACH));
    const before = grip();
    held.set(event.pointerId, at(event));
    const now = grip();
    travelled += Math.hypot(now.x - before.x, now.y - before.y) + Math.abs(now.apart - before.apart);
    plane.move(now.x - before.x, now.y - before.y);
    if (before.apart > 0) plane.zoom(now.apart / before.apart, now.x, now.y);
  });

  canvas.addEventListener("pointerup", (event) => {
    const isClick = held.delete(event.pointerId) && !held.size && travelled < 5;
    if (isClick) select(plane.nearest(event.offsetX, event.offsetY, reach(event)));
  });

  canvas.addEventListener("pointercancel", (event) => held.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => name(-1));

  const wheel = (event) => {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    plane.zoom(Math.exp(-0.002 * lines * event.deltaY), event.offsetX, event.offsetY);
  };
  canvas.addEventListener("wheel", wheel, { passive: false });

  const doings = {
    ArrowLeft: () => plane.move(KEY_STEP, 0),
    ArrowRight: () => plane.move(-KEY_STEP, 0),
    ArrowUp: () => plane.move(0, KEY_STEP),
    ArrowDown: () => plane.move(0, -KEY_STEP),
    "+": () => plane.zoom(KEY_ZOOM),
    "=": () => plane.zoom(KEY_ZOOM),
    "-": () => plane.zoom(1 / KEY_ZOOM),
    0: () => plane.fit(),
    Enter: () => select(inTheMiddle()),
  };
  canvas.addEventListener("keydown", (event) => {
    const doing = doings[event.key];
    if (!doing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    doing();
    name(inTheMiddle());
  });
  canvas.addEventListener("focus", () => {
    if (canvas.matches(":focus-visible")) name(inTheMiddle());
    plane.change();
  });
  canvas.addEventListener("blur", () => {
    name(-1);
    plane.change();
  });

  for (const button of document.querySelectorAll("button[data-does]")) {
    button.addEventListener("click", doings[button.dataset.does]);
  }
}
