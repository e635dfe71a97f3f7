// Colours, and pictures made of them.

/** Ends and middle of the scale of weights. It also rises in lightness, so that it can be read without colour. */
const NEGATIVE = [134, 4, 26], ZERO = [126, 130, 136], POSITIVE = [150, 255, 120];
/** A neuron that is off, and one that is fully on. */
const OFF = [38, 42, 50], ON = [255, 208, 66];

const blend = (from, to, share) => from.map((value, k) => value + (to[k] - value) * share);
const css = (colour) => `rgb(${colour.map(Math.round).join(" ")})`;

/** Return the colour of a weight, or a product, that is `share` of the end of its scale, -1 to 1. */
function signedColour(share) {
  return share < 0 ? blend(ZERO, NEGATIVE, Math.min(-share, 1)) : blend(ZERO, POSITIVE, Math.min(share, 1));
}

/** Return the colour of a neuron that is lit by `share`, 0 to 1. */
const litColour = (share) => blend(OFF, ON, Math.min(Math.max(share, 0), 1));

/** Return a function from activations of a layer to what share of it they light up. */
function lighting(activations, f) {
  let [low, high] = [0, 1];
  if (f === "tanh") low = -1;
  else if (!BOUNDED.has(f)) {
    high = activations.reduce((a, b) => Math.max(a, b), 1e-6);
    if (!NEVER_NEGATIVE.has(f)) low = activations.reduce((a, b) => Math.min(a, b), 0);
  }
  return { low, high, of: (a) => (a - low) / (high - low) };
}

/** Return the largest absolute value. */
const extent = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** Return a canvas of `rows` x `columns` pixels, whose colours `colour` makes of `values`. */
function picture(values, [rows, columns], colour) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  const image = new ImageData(columns, rows), bytes = image.data;
  for (let k = 0; k < rows * columns; k++) {
    const [r, g, b] = colour(values[k]);
    bytes[4 * k] = r;
    bytes[4 * k + 1] = g;
    bytes[4 * k + 2] = b;
    bytes[4 * k + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

const grey = (share) => [255 * share, 255 * share, 255 * share];

/** Give `canvas` a size in CSS pixels, and as many pixels as the screen has; return its context, cleared. */
function fitted(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    [canvas.width, canvas.height] = [w, h];
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** Colours of the style sheet that were asked for; to be emptied when the theme changes. */
const THEME = new Map();

/** Return the value of a colour of the style sheet, such as "--ink". */
function themed(name) {
  if (!THEME.has(name)) THEME.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return THEME.get(name);
}

/** Return a new element with text and attributes. */
function element(tag, text = "", attributes = {}) {
  const found = document.createElement(tag);
  found.textContent = text;
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  return found;
}

/** Return a number as text: two decimals, three of small numbers, and fewer or powers of ten where those don't do. */
function number(value) {
  const size = Math.abs(value);
  if (size >= 1e5 || (size && size < 5e-4)) return value.toExponential(1);
  return value.toFixed(size >= 100 ? 0 : size >= 0.1 || !size ? 2 : 3);
}
const signed = (value) => (value < 0 ? "\u2212" : "+") + number(Math.abs(value));
const plain = (value) => (value < 0 ? "\u2212" : "") + number(Math.abs(value));
const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)} %`;
