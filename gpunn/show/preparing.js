// From a drawing to what the network was trained on: the steps of gpunn/pictures/framing.py.

/** Sides of the boxes that digits are scaled into, by framing. */
const BOXES = { digit: 20, emnist: 24 };
/** Least width of a stroke, in pixels of the box. */
const PEN = 1.8;
/** Ink below this is no ink. */
const FAINT = 0.05;

/** Rows and columns of numbers. */
class Grid {
  constructor(rows, columns, values = new Float32Array(rows * columns)) {
    Object.assign(this, { rows, columns, values });
  }

  at(row, column) {
    const inside = row >= 0 && column >= 0 && row < this.rows && column < this.columns;
    return inside ? this.values[row * this.columns + column] : 0;
  }

  map(f) {
    return new Grid(this.rows, this.columns, this.values.map(f));
  }

  /** The sums, or whatever `f` adds up, of the rows and of the columns. */
  profiles(f) {
    const byRow = new Float64Array(this.rows), byColumn = new Float64Array(this.columns);
    for (let row = 0, k = 0; row < this.rows; row++)
      for (let column = 0; column < this.columns; column++, k++) {
        byRow[row] = f(byRow[row], this.values[k]);
        byColumn[column] = f(byColumn[column], this.values[k]);
      }
    return [byRow, byColumn];
  }
}

/**
 * Return the grey levels, 0 to 255, of an image of `shape` and `framing` from a Grid of ink, 0 to 1, or null.
 * `unpadded` is the shape of images before background was put around them.
 */
function prepared(drawing, shape, framing, unpadded) {
  const ink = framing in BOXES ? cutOut(drawing) : drawing;
  if (!ink || !ink.values.some((value) => value > FAINT)) return null;
  return framing in BOXES ? framed(ink, framing, shape, unpadded) : shrunk(ink, shape, unpadded);
}

/** Return the part of the drawing that has ink, the strongest of which is 1, or null. */
function cutOut(drawing) {
  const [byRow, byColumn] = drawing.profiles((most, value) => (value > most ? value : most));
  const peak = Math.max(...byRow);
  const inked = (side) => [side.findIndex((v) => v > FAINT * peak), side.findLastIndex((v) => v > FAINT * peak)];
  const [top, bottom] = inked(byRow), [left, right] = inked(byColumn);
  if (top < 0) return null;
  const part = new Grid(bottom - top + 1, right - left + 1);
  for (let row = 0, k = 0; row < part.rows; row++)
    for (let column = 0; column < part.columns; column++, k++)
      part.values[k] = drawing.values[(top + row) * drawing.columns + left + column] / peak;
  return part;
}

function framed(ink, framing, [rows, columns], [height, width]) {
  const digit = scaled(ink, BOXES[framing]);
  const field = new Uint8Array(rows * columns);
  let top = Math.floor((height - digit.rows) / 2), left = Math.floor((width - digit.columns) / 2);
  if (framing === "digit") {
    const [byRow, byColumn] = digit.profiles((sum, value) => sum + value);
    [top, left] = [offset(byRow, height), offset(byColumn, width)];
  }
  top += Math.floor((rows - height) / 2);
  left += Math.floor((columns - width) / 2);
  digit.values.forEach((value, k) => {
    const row = top + Math.floor(k / digit.columns), column = left + (k % digit.columns);
    field[row * columns + column] = rounded(value);
  });
  return field;
}

/** Return the ink scaled to a longer side of `box` pixels, 0 to 255, its strokes bright and not too thin. */
function scaled(ink, box) {
  let scale = box / Math.max(ink.rows, ink.columns);
  if (scale < 1) {
    const pen = strokeWidth(ink);
    if (pen * scale < PEN) ink = thickened(ink, (PEN / scale - pen) / (1 - PEN / box));
    scale = box / Math.max(ink.rows, ink.columns);
  }
  const [rows, columns] = [ink.rows, ink.columns].map((side) => Math.max(1, rounded(side * scale)));
  const digit = resized(ink.map((value) => value * 255), rows, columns).map(clipped);
  if (scale >= 1) return digit;
  const maxima = digit.profiles(Math.max).flatMap((side) => [...side]);
  const ridge = median(maxima);
  return digit.map((value) => clipped(value * Math.max(1, 255 / Math.max(ridge, 1))));
}

/** Return the width of the strokes: twice their area by the length of their outline. */
function strokeWidth(ink) {
  const { rows, columns, values } = ink;
  let area = 0, outline = 0;
  for (let row = 0, k = 0; row < rows; row++)
    for (let column = 0; column < columns; column++, k++) {
      const here = values[k];
      area += here;
      outline += Math.abs((column ? values[k - 1] : 0) - here) + Math.abs((row ? values[k - columns] : 0) - here);
      if (column === columns - 1) outline += here;
      if (row === rows - 1) outline += here;
    }
  return (2 * area) / ((outline * Math.PI) / 4);
}

/** Return the ink with strokes, and a box, about `by` pixels wider. */
function thickened(ink, by) {
  const steps = Math.max(1, rounded(by / 2));
  for (let step = 0; step < steps; step++) {
    const grown = new Grid(ink.rows + 2, ink.columns + 2);
    for (let row = 0; row < grown.rows; row++)
      for (let column = 0; column < grown.columns; column++) {
        const at = (down, across) => ink.at(row - 1 + down, column - 1 + across);
        let most = Math.max(at(0, 0), at(0, -1), at(0, 1), at(-1, 0), at(1, 0));
        if (step % 2) most = Math.max(most, at(-1, -1), at(-1, 1), at(1, -1), at(1, 1));
        grown.values[row * grown.columns + column] = most;
      }
    ink = grown;
  }
  return ink;
}

/** Return the place in a field of `size` pixels that has the centre of `mass` in the middle of pixel size / 2. */
function offset(mass, size) {
  let sum = 0, moment = 0;
  mass.forEach((value, k) => {
    sum += value;
    moment += value * (k + 0.5);
  });
  return Math.min(Math.max(rounded((size + 1) / 2 - moment / sum), 0), size - mass.length);
}

/** Return the whole drawing in an image of `shape`, in its middle. */
function shrunk(drawing, [rows, columns], [most, widest]) {
  const scale = Math.min(most / drawing.rows, widest / drawing.columns);
  const height = Math.min(most, Math.max(1, rounded(drawing.rows * scale)));
  const width = Math.min(widest, Math.max(1, rounded(drawing.columns * scale)));
  // Pillow keeps the levels of such pictures in 8 bits.
  const inBytes = (value) => rounded(clipped(value));
  const levels = resized(drawing.map((value) => value * 255), height, width, inBytes).map(inBytes);
  const inside = (outer, inner, size) => Math.floor((outer - inner) / 2) + Math.floor((inner - size) / 2);
  const top = inside(rows, most, height), left = inside(columns, widest, width);
  const field = new Uint8Array(rows * columns);
  levels.values.forEach((value, k) => {
    field[(top + Math.floor(k / width)) * columns + left + (k % width)] = value;
  });
  return field;
}

/**
 * Resize a grid by cubic convolution over as many pixels as become one, as Pillow does: first across, then down.
 * `between` is what it does to numbers between the two.
 */
function resized(grid, rows, columns, between = (value) => value) {
  const across = columns === grid.columns ? grid : resizedAcross(grid, columns).map(between);
  return rows === across.rows ? across : transposed(resizedAcross(transposed(across), rows));
}

function resizedAcross(grid, columns) {
  const scale = grid.columns / columns, stretch = Math.max(scale, 1), support = 2 * stretch;
  const found = new Grid(grid.rows, columns);
  for (let column = 0; column < columns; column++) {
    const centre = (column + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(grid.columns, Math.trunc(centre + support + 0.5));
    const shares = [];
    for (let k = first; k < last; k++) shares.push(cubic((k - centre + 0.5) / stretch));
    const total = shares.reduce((a, b) => a + b, 0);
    for (let row = 0; row < grid.rows; row++) {
      let sum = 0;
      for (let k = first; k < last; k++) sum += grid.values[row * grid.columns + k] * (shares[k - first] / total);
      found.values[row * columns + column] = sum;
    }
  }
  return found;
}

/** The kernel of cubic convolution with a = -1/2 (R. Keys, 1981). */
function cubic(x) {
  x = Math.abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

function transposed(grid) {
  const found = new Grid(grid.columns, grid.rows);
  for (let row = 0, k = 0; row < grid.rows; row++)
    for (let column = 0; column < grid.columns; column++, k++) found.values[column * grid.rows + row] = grid.values[k];
  return found;
}

const clipped = (level) => Math.min(Math.max(level, 0), 255);

/** Round to the nearest integer, halves to the even one, as NumPy and Python do. */
function rounded(x) {
  const floor = Math.floor(x);
  if (x - floor === 0.5) return floor % 2 ? floor + 1 : floor;
  return Math.round(x);
}

function median(values) {
  const order = Float64Array.from(values).sort(), half = order.length >> 1;
  return order.length % 2 ? order[half] : (order[half - 1] + order[half]) / 2;
}
