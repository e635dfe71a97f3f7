// The drawing field: strokes by mouse, finger, pen or keys, and images that are put on it.

/** Width of the pen, as a part of the field's longer side: between two and three of MNIST's pixels. */
const PEN_WIDTH = 0.075;
/** Pixels of the longer side of a field for digits, which are cut out of it. */
const FIELD_SIDE = 280;

/** Draws on `canvas` for images of `shape` and `framing`, and calls `changed` after each line; `mark` is the keys' pen. */
class Board {
  constructor(canvas, mark, shape, framing, changed) {
    const [rows, columns] = shape;
    const factor = framing in BOXES ? FIELD_SIDE / 28 : Math.max(1, Math.min(5, Math.floor(560 / Math.max(rows, columns))));
    Object.assign(this, { canvas, mark, shape, framing, changed, last: null, key: null });
    [canvas.width, canvas.height] = [columns * factor, rows * factor];
    canvas.style.aspectRatio = `${columns} / ${rows}`;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.width = PEN_WIDTH * Math.max(canvas.width, canvas.height);
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (this.last = null));
    canvas.addEventListener("keydown", (event) => this.press(event));
    canvas.addEventListener("blur", () => this.movePen(null));
  }

  /** Ink, 0 to 1, row by row. */
  ink() {
    const { width, height } = this.canvas;
    const { data } = this.context.getImageData(0, 0, width, height);
    const grid = new Grid(height, width);
    for (let k = 0; k < grid.values.length; k++) grid.values[k] = data[4 * k + 3] / 255;
    return grid;
  }

  /** Empty the field. */
  clear() {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.shown = false;
    this.last = null;
    this.changed();
  }

  /** Put `levels` of an image, from 0 to 1, on the field; the next stroke clears it. */
  show(levels) {
    const small = picture(levels, this.shape, () => [255, 255, 255]);
    const context = small.getContext("2d"), image = context.getImageData(0, 0, small.width, small.height);
    levels.forEach((level, k) => (image.data[4 * k + 3] = 255 * Math.min(Math.max(level, 0), 1)));
    context.putImageData(image, 0, 0);
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.context.imageSmoothingEnabled = false;
    this.context.drawImage(small, 0, 0, this.canvas.width, this.canvas.height);
    this.shown = true;
  }

  begin(event) {
    if (event.button) return;
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    this.movePen(null);
    if (this.shown) this.clear();
    this.last = this.place(event);
    this.line(this.last, this.last);
    this.changed();
  }

  move(event) {
    if (!this.last) return;
    const passed = event.getCoalescedEvents?.() ?? [];
    for (const each of passed.length ? passed : [event]) {
      const place = this.place(each);
      this.line(this.last, place);
      this.last = place;
    }
    this.changed();
  }

  /** Return where an event was, in pixels of the field. */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) / box.width) * this.canvas.width,
      ((event.clientY - box.top) / box.height) * this.canvas.height,
    ];
  }

  line(from, to) {
    const { context } = this;
    Object.assign(context, { strokeStyle: "#fff", lineWidth: this.width, lineCap: "round", lineJoin: "round" });
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(to[0] + 0.01, to[1]);
    context.stroke();
  }

  /** Draw by keys: arrows move a pen, Space lowers and lifts it. */
  press(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (event.key === "Delete" || event.key === "Backspace") this.clear();
    else if (event.key === " " || step) {
      const pen = this.key ?? { at: [this.canvas.width / 2, this.canvas.height / 4], down: false };
      if (step) this.key = this.stepped(pen, step);
      else {
        this.key = { ...pen, down: !pen.down };
        if (this.key.down) {
          if (this.shown) this.clear();
          this.line(pen.at, pen.at);
        }
      }
      this.movePen(this.key);
      this.changed();
    } else return;
    event.preventDefault();
  }

  stepped(pen, step) {
    const size = this.width / 2;
    const at = pen.at.map((value, k) =>
      Math.min(Math.max(value + size * step[k], size), (k ? this.canvas.height : this.canvas.width) - size),
    );
    if (pen.down) this.line(pen.at, at);
    return { ...pen, at };
  }

  /** Show where the pen of the keyboard is; null hides it. */
  movePen(pen) {
    this.key = pen;
    this.mark.hidden = !pen;
    if (!pen) return;
    this.mark.classList.toggle("down", pen.down);
    this.mark.style.left = `${(100 * pen.at[0]) / this.canvas.width}%`;
    this.mark.style.top = `${(100 * pen.at[1]) / this.canvas.height}%`;
  }
}
