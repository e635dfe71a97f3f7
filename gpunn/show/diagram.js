// The diagram: the input's picture, a canvas for each layer, and the strongest paths into the answer.

/** Layers of at most so many neurons are columns of circles, larger ones are grids of squares. */
const COLUMN = 20;
/** Width of a grid at most, and height that it is to have at most, in CSS pixels. */
const GRID_WIDTH = 190, GRID_HEIGHT = 300;
/** Largest number of paths that are drawn into a neuron, and in all between two layers. */
const PATHS = 6, MOST_PATHS = 18;
const ROW = 25, BAR_ROW = 27;

/**
 * Makes `canvas` a slider over `count` neurons: a click or a key chooses one. `columns()` is how many are in a row, and
 * `at(x, y)` is the neuron at a place, or -1. `describe(j)` is what a screen reader says.
 */
function makePicker(canvas, { label, count, columns, at, choose, describe }) {
  let current = 0;
  const set = (attributes) => Object.entries(attributes).forEach(([name, value]) => canvas.setAttribute(name, value));
  set({ role: "slider", tabindex: 0, "aria-label": label, "aria-valuemin": 1, "aria-valuemax": count });
  const tell = () => set({ "aria-valuenow": current + 1, "aria-valuetext": describe(current) });
  canvas.addEventListener("click", (event) => {
    const found = at(event.offsetX, event.offsetY);
    if (found >= 0 && found < count) choose((current = found));
    tell();
  });
  canvas.addEventListener("pointermove", (event) => {
    const found = at(event.offsetX, event.offsetY);
    canvas.title = found >= 0 && found < count ? describe(found) : "";
  });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns(), Home: -count, End: count };
    if (event.key !== "Enter" && event.key !== " " && !(event.key in moves)) return;
    event.preventDefault();
    choose((current = Math.min(Math.max(current + (moves[event.key] ?? 0), 0), count - 1)));
    tell();
  });
  tell();
  return { tell, move: (j) => (current = j) };
}

/** One layer of the diagram, with its neurons' places in CSS pixels. */
class LayerView {
  constructor(number, layer, isLast, { title, choose, describe, className }) {
    Object.assign(this, { number, size: layer.size, f: layer.f, isLast, className });
    this.figure = element("figure", "", { class: isLast ? "layer outputs" : "layer" });
    this.canvas = element("canvas");
    this.caption = element("figcaption");
    this.caption.append(element("b", title), element("span", layer.f.replace("_", " ")));
    this.figure.append(this.caption, this.canvas);
    this.isGrid = !isLast && this.size > COLUMN;
    this.fit(GRID_WIDTH);
    this.picker = makePicker(this.canvas, {
      label: `${title}: ${layer.size} ${layer.f.replace("_", " ")} neuron${layer.size === 1 ? "" : "s"}`,
      count: layer.size,
      columns: () => this.columns,
      at: (x, y) => this.at(x, y),
      choose: (j) => choose(number, j),
      describe: (j) => describe(number, j),
    });
  }

  /** Arrange the neurons in `room` CSS pixels of width; outputs take all of it. */
  fit(room) {
    this.columns = 1;
    this.cell = this.isLast && this.size > 30 ? 16 : this.isLast ? BAR_ROW : ROW;
    if (this.isGrid) {
      const width = Math.min(GRID_WIDTH, Math.max(room, 40));
      this.cell = Math.max(4, Math.min(18, Math.floor(Math.sqrt((width * GRID_HEIGHT) / this.size))));
      this.columns = Math.min(Math.ceil(Math.sqrt(this.size / 1.5)), Math.floor(width / this.cell));
    }
    this.rows = Math.ceil(this.size / this.columns);
    this.width = this.isLast ? room : this.columns * this.cell;
  }

  at(x, y) {
    const column = this.isLast ? 0 : Math.floor(x / this.cell), row = Math.floor(y / this.cell);
    return column < this.columns ? row * this.columns + column : -1;
  }

  centre(j) {
    return [((j % this.columns) + 0.5) * this.cell, (Math.floor(j / this.columns) + 0.5) * this.cell];
  }

  /** Where a path into neuron j ends, and, with `out`, where one out of it begins: at the side of a grid. */
  end(j, out) {
    const [x, y] = this.centre(j);
    if (this.isLast) return [0, y];
    return this.isGrid ? [out ? this.width : 0, y] : [x, y];
  }

  /** Draw the layer; neurons in the set `strong` are on the strongest paths. */
  draw(activations, chosen, winner, strong) {
    const context = fitted(this.canvas, this.width, this.rows * this.cell), lit = lighting(activations, this.f);
    if (this.isLast) this.drawBars(context, this.width, activations, lit, chosen, winner);
    else this.drawNeurons(context, activations, lit, chosen, strong);
    this.picker.tell();
  }

  drawNeurons(context, activations, lit, chosen, strong) {
    const { cell } = this, radius = this.isGrid ? 0 : cell * 0.4;
    const outline = (j) => {
      const [x, y] = this.centre(j);
      context.beginPath();
      if (radius) context.arc(x, y, radius, 0, 7);
      else context.rect(x - cell / 2 + 0.5, y - cell / 2 + 0.5, cell - 1, cell - 1);
    };
    if (this.isGrid) this.drawSquares(context, activations, lit);
    for (let j = 0; j < this.size; j++) {
      if (this.isGrid && j !== chosen && !strong.has(j)) continue;
      outline(j);
      if (radius) {
        context.fillStyle = css(litColour(lit.of(activations[j])));
        context.fill();
      }
      context.strokeStyle = themed(j === chosen ? "--accent" : strong.has(j) ? "--ink" : "--rim");
      context.lineWidth = j === chosen ? 3 : strong.has(j) ? 1.5 : 1;
      context.stroke();
    }
  }

  /** Draw a square for each neuron, all at once: thousands of shapes of their own would take too long. */
  drawSquares(context, activations, lit) {
    const { rows, columns, cell, size } = this, none = [0, 0, 0];
    const values = Array.from({ length: rows * columns }, (_, j) => (j < size ? activations[j] : null));
    const squares = picture(values, [rows, columns], (a) => (a === null ? none : litColour(lit.of(a))));
    context.imageSmoothingEnabled = false;
    context.drawImage(squares, 0, 0, columns * cell, rows * cell);
    for (let row = 0; row <= rows; row++) context.clearRect(0, row * cell - 0.5, columns * cell, 1);
    for (let column = 0; column <= columns; column++) context.clearRect(column * cell - 0.5, 0, 1, rows * cell);
    context.clearRect((size - (rows - 1) * columns) * cell, (rows - 1) * cell, columns * cell, cell);
  }

  drawBars(context, width, activations, lit, chosen, winner) {
    const names = Array.from(activations, (_, j) => this.className(j));
    const small = this.cell < BAR_ROW, size = small ? 11 : 15;
    context.font = `600 ${size}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    const room = Math.min(width * 0.45, Math.max(...names.map((name) => context.measureText(name).width))) + 18;
    activations.forEach((a, j) => {
      const y = (j + 0.5) * this.cell, share = Math.min(Math.max(lit.of(a), 0), 1);
      context.fillStyle = themed(j === winner ? "--ink" : "--soft");
      context.font = `${j === winner ? 700 : 500} ${size}px system-ui, sans-serif`;
      context.fillText(names[j], 8, y, room - 14);
      const [left, top, high] = [room, y - this.cell * 0.3, this.cell * 0.6];
      context.fillStyle = themed("--track");
      context.fillRect(left, top, width - left - 3, high);
      context.fillStyle = j === winner ? css(ON) : themed("--bar");
      context.fillRect(left, top, (width - left - 3) * share, high);
      if (j === chosen) {
        context.strokeStyle = themed("--accent");
        context.lineWidth = 2;
        context.strokeRect(1, j * this.cell + 1, width - 2, this.cell - 2);
      }
    });
  }
}

/** Return the indices of the `count` values with the largest size, the largest first. */
function largest(values, count) {
  const found = [];
  for (let k = 0; k < values.length; k++) {
    const size = Math.abs(values[k]);
    if (found.length === count && size <= Math.abs(values[found.at(-1)])) continue;
    let place = found.length;
    while (place && size > Math.abs(values[found[place - 1]])) place--;
    found.splice(place, 0, k);
    if (found.length > count) found.pop();
  }
  return found;
}

/**
 * Return the strongest paths into neuron `winner` of the last layer: for each layer, from the last, a list of
 * { from, to, product, strength }. `product` is weight times activation; `strength` is what share of the products'
 * sizes it has, times the strength of what it leads to, 1 at the winner.
 */
function strongestPaths(network, activations, winner) {
  let into = new Map([[winner, 1]]);
  const found = [];
  for (let l = network.layers.length - 1; l >= 1; l--) {
    const { weights, inputs } = network.layers[l], below = activations[l];
    const paths = [];
    for (const [to, share] of into) {
      const products = below.map((a, k) => weights[to * inputs + k] * a);
      const total = products.reduce((sum, product) => sum + Math.abs(product), 0) || 1;
      for (const k of largest(products, PATHS))
        if (products[k]) paths.push({ from: k, to, product: products[k], strength: (share * Math.abs(products[k])) / total });
    }
    paths.sort((a, b) => b.strength - a.strength);
    paths.splice(MOST_PATHS);
    found.unshift(paths);
    into = new Map();
    for (const { from, strength } of paths) into.set(from, (into.get(from) ?? 0) + strength);
  }
  found.unshift([...into].map(([to, strength]) => ({ to, strength })));
  return found;
}

/** The whole diagram, in `stage`. */
class Diagram {
  constructor(stage, network, shape, options) {
    Object.assign(this, { stage, network, shape, paths: stage.querySelector("canvas") });
    this.input = element("figure", "", { class: "layer input" });
    this.seen = element("canvas", "", { role: "img", "aria-label": "What the network sees" });
    const caption = element("figcaption");
    caption.append(element("b", "Input"), element("span", `${shape[0]}\u00a0×\u00a0${shape[1]} pixels`));
    this.input.append(caption, this.seen);
    stage.append(this.input);
    const last = network.layers.length;
    this.views = network.layers.map((layer, k) => {
      const isLast = k + 1 === last;
      const title = isLast ? "Output" : last === 2 ? "Hidden layer" : `Hidden layer ${k + 1}`;
      const view = new LayerView(k + 1, layer, isLast, { title, ...options });
      stage.append(view.figure);
      return view;
    });
  }

  /** Draw everything for the inputs and `activations`; `chosen` is [layer, neuron], `winner` null if there is none. */
  draw(activations, chosen, winner) {
    const stage = this.stage, style = getComputedStyle(stage), gaps = this.views.length * parseFloat(style.columnGap) + 8;
    const full = stage.clientWidth, side = Math.min(132, Math.max(64, full * 0.18));
    const bars = Math.min(190, Math.max(96, full * 0.24));
    const between = (full - gaps - Math.max(side, this.input.clientWidth) - bars) / (this.views.length - 1 || 1);
    for (const view of this.views) view.fit(view.isLast ? bars : between);
    const [rows, columns] = this.shape, scale = side / Math.max(rows, columns);
    const context = fitted(this.seen, columns * scale, rows * scale);
    context.imageSmoothingEnabled = false;
    context.drawImage(picture(activations[0], this.shape, grey), 0, 0, columns * scale, rows * scale);
    const end = this.network.layers.at(-1).size === 1 ? 0 : winner;
    const paths = winner === null ? [] : strongestPaths(this.network, activations, end);
    for (const view of this.views) {
      const strong = new Set(paths[view.number - 1]?.map((path) => path.to));
      view.draw(activations[view.number], chosen[0] === view.number ? chosen[1] : -1, winner, strong);
    }
    this.drawPaths(paths);
  }

  drawPaths(layers) {
    const box = this.stage.getBoundingClientRect(), width = this.stage.scrollWidth;
    const context = fitted(this.paths, width, this.stage.scrollHeight);
    const colours = { true: themed("--plus"), false: themed("--minus") };
    const place = (canvas, [x, y]) => {
      const own = canvas.getBoundingClientRect();
      return [own.left - box.left + this.stage.scrollLeft + x, own.top - box.top + y];
    };
    layers.forEach((paths, l) => {
      const to = this.views[l], from = l ? this.views[l - 1] : null;
      const most = paths.reduce((a, path) => Math.max(a, path.strength), 0) || 1;
      for (const path of paths) {
        const seen = [this.seen.clientWidth, this.seen.clientHeight / 2];
        const [x0, y0] = from ? place(from.canvas, from.end(path.from, true)) : place(this.seen, seen);
        const [x1, y1] = place(to.canvas, to.end(path.to, false));
        context.strokeStyle = from ? colours[path.product > 0] : themed("--line");
        context.lineWidth = 1 + 4 * (path.strength / most);
        context.setLineDash(from && path.product < 0 ? [5, 4] : []);
        context.globalAlpha = 0.35 + 0.6 * (path.strength / most);
        context.beginPath();
        context.moveTo(x0, y0);
        context.bezierCurveTo((x0 + x1) / 2, y0, (x0 + x1) / 2, y1, x1, y1);
        context.stroke();
      }
    });
    context.globalAlpha = 1;
  }
}
