// Points on a canvas that can be moved and zoomed. It draws when something changed, once a frame,
// and knows nothing of items: a point is its place in the columns.

const MARGIN = 28;
const NEAREST_ZOOM = 400;
const FARTHEST_ZOOM = 0.5;

export class Plane {
  // What is drawn: columns `x`, `y`, `group`, a colour for each group, and which points are marked.
  points = { x: [], y: [], group: [], labels: [] };
  colours = [];
  marks = { selected: -1, near: [], found: [] };
  // The point that is named: under the pointer, or in the middle while the keyboard moves the plane.
  pointed = -1;

  #canvas;
  #context;
  #middle = { x: 0, y: 0 };
  #scale = 1;
  #fitting = 1;
  #isDue = false;

  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    new ResizeObserver(() => this.change()).observe(canvas);
  }

  get width() {
    return this.#canvas.clientWidth;
  }

  get height() {
    return this.#canvas.clientHeight;
  }

  // Draws soon; any number of changes within a frame cost one drawing.
  change() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#draw();
    });
  }

  // Shows every point.
  fit() {
    const { x, y } = this.points;
    if (!x.length) return;
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < x.length; i++) {
      left = Math.min(left, x[i]);
      right = Math.max(right, x[i]);
      low = Math.min(low, y[i]);
      high = Math.max(high, y[i]);
    }
    this.#middle = { x: (left + right) / 2, y: (low + high) / 2 };
    const wide = (this.width - 2 * MARGIN) / (right - left || 1);
    const tall = (this.height - 2 * MARGIN) / (high - low || 1);
    this.#scale = this.#fitting = Math.max(1e-9, Math.min(wide, tall));
    this.change();
  }

  // In pixels of the page; what was at the start of the way is then at its end.
  move(right, down) {
    this.#middle.x -= right / this.#scale;
    this.#middle.y += down / this.#scale;
    this.change();
  }

  // What is at (px, py) stays there.
  zoom(factor, px = this.width / 2, py = this.height / 2) {
    const [least, most] = [FARTHEST_ZOOM * this.#fitting, NEAREST_ZOOM * this.#fitting];
    const scale = Math.min(most, Math.max(least, this.#scale * factor));
    const [right, down] = [px - this.width / 2, py - this.height / 2];
    this.#middle.x += right / this.#scale - right / scale;
    this.#middle.y -= down / this.#scale - down / scale;
    this.#scale = scale;
    this.change();
  }

  // Moves no farther than it must for a point to be seen.
  reveal(point) {
    const [px, py] = this.#at(point);
    const right = Math.min(Math.max(px, MARGIN), this.width - MARGIN) - px;
    const down = Math.min(Math.max(py, MARGIN), this.height - MARGIN) - py;
    this.move(right, down);
  }

  // The point nearest to (px, py), or -1 if none is within so many pixels.
  nearest(px, py, within) {
    const at = this.#projection();
    let [best, least] = [-1, within ** 2];
    for (let i = 0; i < this.points.x.length; i++) {
      const [x, y] = at(i);
      const far = (x - px) ** 2 + (y - py) ** 2;
      if (far <= least) [best, least] = [i, far];
    }
    return best;
  }

  // Where points are, in pixels. Sizes are read once, as each reading may cost a layout.
  #projection() {
    const [left, top] = [this.width / 2, this.height / 2];
    const { x, y } = this.points;
    const [middle, scale] = [this.#middle, this.#scale];
    return (point) => [left + (x[point] - middle.x) * scale, top - (y[point] - middle.y) * scale];
  }

  #at(point) {
    return this.#projection()(point);
  }

  #draw() {
    const [canvas, context, ratio] = [this.#canvas, this.#context, window.devicePixelRatio];
    const [width, height] = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    // Setting a size also clears, and costs memory; so it is only set anew.
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    const style = getComputedStyle(canvas);
    const isMarked = this.marks.selected >= 0 || this.marks.near.length || this.marks.found.length;
    const zoomed = this.#scale / this.#fitting;
    // Few points are larger, and all grow as they come nearer.
    const small = Math.min(4.5, Math.max(2.2, 160 / Math.sqrt(this.points.x.length)));
    const radius = Math.min(8, small * Math.max(1, zoomed) ** 0.35);
    context.globalAlpha = isMarked ? 0.35 : 0.9;
    this.colours.forEach((colour, group) => this.#dots(group, colour, radius));
    context.globalAlpha = 1;
    this.#drawMarks(style, radius + 2);
    if (canvas.matches(":focus-visible")) this.#cross(style.color);
    if (this.pointed >= 0) this.#label(this.pointed, style, radius);
  }

  #dots(group, colour, radius) {
    const context = this.#context;
    const at = this.#projection();
    const [width, height] = [this.width + radius, this.height + radius];
    context.fillStyle = colour;
    for (let i = 0; i < this.points.x.length; i++) {
      if (this.points.group[i] !== group) continue;
      const [px, py] = at(i);
      if (px < -radius || py < -radius || px > width || py > height) continue;
      context.beginPath();
      context.arc(px, py, radius, 0, 2 * Math.PI);
      context.fill();
    }
  }

  // Shapes tell marks apart, not colours alone: found are squares, neighbours rings with their
  // number in the list, the selected one is a disc in a ring.
  #drawMarks(style, radius) {
    const context = this.#context;
    const { selected, near, found } = this.marks;
    context.strokeStyle = context.fillStyle = style.color;
    context.lineWidth = 1.5;
    for (const point of found) {
      const [x, y] = this.#dot(point, radius);
      context.strokeRect(x - radius - 1, y - radius - 1, 2 * radius + 2, 2 * radius + 2);
    }
    context.font = `11px ${style.fontFamily}`;
    for (const { point, number } of near) {
      const [x, y] = this.#dot(point, radius);
      this.#ring(x, y, radius, style.color, 1.5);
      this.#text(String(number), x + radius + 3, y + 4, style);
    }
    if (selected < 0) return;
    const [x, y] = this.#dot(selected, radius + 1);
    this.#ring(x, y, radius + 1, style.color, 2);
    this.#ring(x, y, radius + 5, style.accentColor, 3);
  }

  #dot(point, radius) {
    const [x, y] = this.#at(point);
    this.#context.fillStyle = this.colours[this.points.group[point]];
    this.#context.beginPath();
    this.#context.arc(x, y, radius, 0, 2 * Math.PI);
    this.#context.fill();
    return [x, y];
  }

  #ring(x, y, radius, colour, width) {
    this.#context.strokeStyle = colour;
    this.#context.lineWidth = width;
    this.#context.beginPath();
    this.#context.arc(x, y, radius, 0, 2 * Math.PI);
    this.#context.stroke();
  }

  #cross(colour) {
    const [x, y] = [this.width / 2, this.height / 2];
    this.#context.strokeStyle = colour;
    this.#context.lineWidth = 1;
    this.#context.beginPath();
    this.#context.moveTo(x - 9, y);
    this.#context.lineTo(x + 9, y);
    this.#context.moveTo(x, y - 9);
    this.#context.lineTo(x, y + 9);
    this.#context.stroke();
  }

  #label(point, style, radius) {
    const [x, y] = this.#at(point);
    this.#ring(x, y, radius + 3, style.accentColor, 2);
    this.#context.font = `600 13px ${style.fontFamily}`;
    const text = this.points.labels[point];
    const width = this.#context.measureText(text).width;
    const left = Math.max(4, Math.min(x - width / 2, this.width - width - 4));
    this.#text(text, left, y < 40 ? y + radius + 20 : y - radius - 9, style);
  }

  // On a rim of paper, so that it can be read over points.
  #text(text, x, y, style) {
    this.#context.lineJoin = "round";
    this.#context.lineWidth = 4;
    this.#context.strokeStyle = style.backgroundColor;
    this.#context.strokeText(text, x, y);
    this.#context.fillStyle = style.color;
    this.#context.fillText(text, x, y);
  }
}
