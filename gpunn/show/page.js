// The page: its state, and how the parts follow it.

const DATA = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const HIDDEN_LAYERS = DATA.sizes.length - 2;
const FINAL = new Network(DATA.layers, DATA.functions, DATA.half);
const MOMENTS = DATA.snapshots ?? [];

/**
 * The network that is shown, its inputs and activations, the neuron chosen (null: the answer's), whether there is
 * nothing to read, and whether the drawing has changed since it was read.
 */
const state = { network: FINAL, pixels: new Float32Array(DATA.sizes[0]), pass: null, chosen: null, empty: true, drawn: false };
const networks = new Map([[MOMENTS.length, FINAL]]);

const layerName = (l) => (l === FINAL.layers.length ? "output" : HIDDEN_LAYERS === 1 ? "hidden" : `hidden layer ${l}`);
const isClass = (l) => l === FINAL.layers.length && FINAL.layers[l - 1].size > 1;
const neuronName = (l, j) => (isClass(l) ? `output ${DATA.classes[j]}` : l === FINAL.layers.length ? "the output" : `${HIDDEN_LAYERS > 1 ? `layer ${l}, ` : ""}neuron ${j + 1}`);

/** Return what a screen reader says of a neuron. */
const described = (l, j) => `${neuronName(l, j)}, activation ${plain(state.pass ? state.pass.activations[l][j] : 0)}`;

const outputs = () => state.pass.activations.at(-1);
const winner = () => (state.empty ? null : decided(outputs()));
/** The neuron whose reasons are shown: the chosen one, or that of the answer. */
const explained = () => state.chosen ?? [FINAL.layers.length, FINAL.layers.at(-1).size === 1 ? 0 : winner() ?? 0];

function choose(l, j) {
  state.chosen = [l, j];
  redraw();
}

const board = new Board(at("drawing"), at("pen"), DATA.shape, DATA.framing, () => {
  state.drawn = true;
  update();
});
at("clear").addEventListener("click", () => board.clear());

const diagram = new Diagram(at("stage"), FINAL, DATA.shape, {
  choose,
  describe: described,
  className: (j) => (FINAL.layers.at(-1).size === 1 ? DATA.classes[1] : DATA.classes[j]),
});

/** Compute and draw what follows from the state, once for each picture that the screen shows. */
let waiting = false;
function update() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    compute();
    draw();
  });
}

function compute() {
  if (state.drawn) {
    const levels = prepared(board.ink(), DATA.shape, DATA.framing, DATA.unpadded);
    state.drawn = false;
    state.empty = levels === null;
    state.pixels = levels ? Float32Array.from(levels, (level) => level / 255) : new Float32Array(DATA.sizes[0]);
    at("source").textContent = "";
  }
  state.pass = state.network.forward(state.pixels);
}

function draw() {
  const answer = winner();
  const text = answer === null ? "?" : DATA.classes[answer];
  at("read").textContent = text;
  at("read").classList.toggle("word", text.length > 3);
  at("sure").textContent = answer === null ? "draw here" : percent(shareOf(outputs(), answer));
  diagram.draw(state.pass.activations, explained(), answer);
  explain();
}

/** Show what drives the neuron explained: weights times what comes from below. */
function explain() {
  const [l, j] = explained();
  const { weights, biases, inputs, f } = state.network.layers[l - 1];
  const below = state.pass.activations[l - 1], own = weights.subarray(j * inputs, (j + 1) * inputs);
  const products = own.map((weight, k) => weight * below[k]);
  const z = state.pass.sums[l][j], a = state.pass.activations[l][j], bias = biases[j];
  at("follow").hidden = state.chosen === null;
  at("why-title").textContent = state.empty ? `What ${neuronName(l, j)} listens to` : `Why ${neuronName(l, j)} is at ${plain(a)}`;
  const sum = `${l === 1 ? "Weights × pixels" : "Weights × activations"} add up to ${plain(z - bias)}`;
  const rest = `with the bias ${signed(bias)} that is ${plain(z)}`;
  at("why-text").textContent = `${sum}; ${rest}, of which ${f.replace("_", " ")} makes ${plain(a)}.`;
  const box = at("why");
  if (l === 1) box.replaceChildren(...pixelReasons(own, below, products));
  else box.replaceChildren(neuronReasons(l, own, below, products));
  at("why-note").textContent =
    l === 1
      ? `Light green speaks for it, dark red against it, grey is none. In the third picture the ends of the scale are ±${plain(extent(products))}.`
      : "Green, solid bars raise it; red, striped ones lower it. The strongest come first.";
}

function pixelReasons(own, below, products) {
  const shown = [
    ["weights", picture(own, DATA.shape, (w) => signedColour(w / weightScale)), "×"],
    ["pixels", picture(below, DATA.shape, grey), "="],
    ["products", picture(products, DATA.shape, ((most) => (p) => signedColour(p / most))(extent(products) || 1)), ""],
  ];
  return shown.flatMap(([text, canvas, sign]) => {
    const figure = element("figure", "", { class: "reason" });
    figure.append(canvas, element("figcaption", text));
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", text);
    return sign ? [figure, element("span", sign, { class: "sign", "aria-hidden": "true" })] : [figure];
  });
}

/** Number of neurons below that are listed. */
const LISTED = 8;

function neuronReasons(l, own, below, products) {
  const order = largest(products, LISTED), most = Math.abs(products[order[0]]) || 1;
  const table = element("table", "", { class: "reasons" });
  const head = element("tr");
  for (const text of ["from", "weight × activation", "", "adds"]) head.append(element("th", text, { scope: "col" }));
  table.append(head);
  for (const k of order) {
    const row = element("tr"), name = element("th", "", { scope: "row" });
    const button = element("button", neuronName(l - 1, k), { type: "button", class: "link" });
    button.addEventListener("click", () => choose(l - 1, k));
    name.append(button);
    const bar = element("i");
    bar.className = products[k] < 0 ? "minus" : "plus";
    bar.style.setProperty("--share", Math.abs(products[k]) / most);
    const drawn = element("td", "", { class: "bar" });
    drawn.append(bar);
    row.append(name, element("td", `${plain(own[k])} × ${plain(below[k])}`), drawn, element("td", signed(products[k]), { class: "sum" }));
    table.append(row);
  }
  return table;
}

at("follow").addEventListener("click", () => {
  state.chosen = null;
  redraw();
  at("why-title").scrollIntoView({ block: "nearest" });
});

// The pictures of the first layer's weights.

/** The end of the scale: beyond it are a few in a thousand of the finished network's weights. */
const weightScale = (() => {
  const sizes = FINAL.layers[0].weights.map(Math.abs).sort();
  return sizes[Math.floor(0.995 * (sizes.length - 1))] || 1;
})();

/** Room around the pictures for the ring that shows the focus, as in the style sheet. */
const FOCUS_RING = 3;

const atlas = { canvas: at("weights"), tile: 0, columns: 1, gap: 6 };

/** Draw the weights of every neuron of the first layer, as many side by side as there is room for. */
function drawWeights() {
  const { weights, size, inputs } = state.network.layers[0], [rows, columns] = DATA.shape;
  const wanted = size <= 16 ? 130 : size <= 32 ? 96 : size <= 256 ? 58 : 36, room = atlas.canvas.parentElement.clientWidth - 2 * FOCUS_RING;
  atlas.gap = wanted > 90 ? 8 : 3;
  const fit = Math.max(1, Math.floor((room + atlas.gap) / (wanted + atlas.gap)));
  atlas.columns = Math.min(Math.max(fit, room < 500 && size > 3 ? (wanted > 90 ? 4 : fit) : 1), size);
  if (size > 6 && size <= 32) atlas.columns = Math.min(atlas.columns, Math.ceil(size / Math.ceil(size / Math.min(atlas.columns, 8))));
  atlas.tile = Math.min(wanted, Math.floor((room + atlas.gap) / atlas.columns) - atlas.gap);
  const step = atlas.tile + atlas.gap, text = atlas.tile >= 50 ? 16 : 0;
  atlas.step = [step, (atlas.tile * rows) / columns + atlas.gap + text];
  const context = fitted(atlas.canvas, atlas.columns * step - atlas.gap, Math.ceil(size / atlas.columns) * atlas.step[1]);
  context.imageSmoothingEnabled = false;
  context.font = "500 12px system-ui, sans-serif";
  const [layer, chosen] = state.chosen ?? [0, 0];
  for (let j = 0; j < size; j++) {
    const [x, y] = [(j % atlas.columns) * step, Math.floor(j / atlas.columns) * atlas.step[1]];
    const own = weights.subarray(j * inputs, (j + 1) * inputs), high = (atlas.tile * rows) / columns;
    context.drawImage(picture(own, DATA.shape, (w) => signedColour(w / weightScale)), x, y, atlas.tile, high);
    if (text) {
      context.fillStyle = themed("--soft");
      context.fillText(FINAL.layers.length === 1 && isClass(1) ? DATA.classes[j] : String(j + 1), x, y + high + 13, atlas.tile);
    }
    if (layer === 1 && chosen === j) {
      context.strokeStyle = themed("--accent");
      context.lineWidth = 3;
      context.strokeRect(x + 1.5, y + 1.5, atlas.tile - 3, high - 3);
    }
  }
}

makePicker(atlas.canvas, {
  label: "Weights of the first layer's neurons, a picture each",
  count: FINAL.layers[0].size,
  columns: () => atlas.columns,
  at: (x, y) => (x % atlas.step[0] < atlas.tile ? Math.floor(y / atlas.step[1]) * atlas.columns + Math.floor(x / atlas.step[0]) : -1),
  choose: (j) => {
    choose(1, j);
    const box = atlas.canvas.parentElement, top = Math.floor(j / atlas.columns) * atlas.step[1];
    if (top < box.scrollTop || top + atlas.step[1] > box.scrollTop + box.clientHeight) box.scrollTop = top;
  },
  describe: (j) => described(1, j),
});

function drawScale() {
  const context = at("scale").getContext("2d");
  context.drawImage(picture(Float32Array.from({ length: 256 }, (_, k) => k / 127.5 - 1), [1, 256], signedColour), 0, 0);
  at("scale-low").textContent = `${plain(-weightScale)} and less`;
  at("scale-high").textContent = `${plain(weightScale)} and more`;
}

// The moments of the training.

/** Show the network as it was at moment `k`; the last is the finished one. */
function showMoment(k) {
  if (!networks.has(k)) networks.set(k, new Network(MOMENTS[k].layers, DATA.functions, true));
  state.network = networks.get(k);
  const { text, epochs } = momentOf(k);
  at("moment").value = k;
  at("moment").setAttribute("aria-valuetext", text);
  at("when").textContent = text;
  for (const each of charts) each.mark(epochs);
  drawWeights();
  update();
}

function momentOf(k) {
  if (k === MOMENTS.length) return { text: `finished${measured(DATA.test)}`, epochs: DATA.kept ?? MOMENTS.at(-1).epochs };
  const { epochs, images } = MOMENTS[k];
  let when = `after epoch ${epochs}`;
  if (images !== null) when = images ? `after ${images.toLocaleString("en")} images` : "before training";
  return { text: when + measured(MOMENTS[k]), epochs };
}

/** Return how good a network was on the test examples, as far as is known. */
function measured(test) {
  if (test?.accuracy != null) return `: ${percent(test.accuracy, 1)} right`;
  return test?.loss != null ? `: loss ${number(test.loss)}` : "";
}

let playing = 0;
function play() {
  if (playing) return stop();
  let k = Number(at("moment").value);
  if (k === MOMENTS.length) k = -1;
  at("play").textContent = "Pause";
  playing = setInterval(() => {
    showMoment(++k);
    if (k >= MOMENTS.length) stop();
  }, 350);
}

function stop() {
  clearInterval(playing);
  playing = 0;
  at("play").textContent = "Play";
}

// What doesn't change.

const charts = [];

function fillHeader() {
  const { test, functions, loss, data } = DATA;
  at("title").textContent = DATA.sizes.join("-");
  const kinds = new Intl.ListFormat("en").format([...new Set(functions)].map((f) => f.replace("_", " ")));
  const facts = [DATA.name, `${DATA.parameters.toLocaleString("en")} parameters`, `${kinds} neurons`, loss.replaceAll("_", " ")];
  if (data) facts.push(`trained on ${data}`);
  if (test?.accuracy != null) facts.push(`${percent(test.accuracy, 2)} of ${test.images.toLocaleString("en")} test images right`);
  at("about").append(...facts.filter(Boolean).map((fact) => element("span", fact)));
  const what = FINAL.layers.length === 1 ? "output" : "neuron of the first hidden layer";
  at("weights-text").textContent = `Each picture shows the weights from all ${DATA.sizes[0]} pixels into one ${what}. Ink on light green raises its sum, ink on dark red lowers it, grey makes no difference. All pictures have one scale.`;
  at("legend").textContent =
    FINAL.layers.length > 1
      ? "Lines: the strongest paths into the answer, thicker for more. Green and solid raises it, red and dashed lowers it. Neurons are lit by their activations. Choose one to see what drives it."
      : "Choose an output to see which pixels drive it.";
  const exact = DATA.half ? "with weights rounded to float16" : "in float32";
  at("footer").textContent = `All of this is computed in this page, ${exact}: nothing is loaded, and nothing you draw leaves it. Made by gpunn.`;
}

function fillTraining() {
  if (!DATA.epochs?.length) return;
  at("training").hidden = false;
  charts.push(...trainingCharts(DATA.epochs));
  at("charts").append(...charts.map((each) => each.figure));
}

function fillDigits() {
  if (!DATA.digits) return;
  const levels = galleryLevels(DATA.digits), { labels, rows, right } = DATA.digits;
  const pick = (k) => {
    board.show(levels[k]);
    Object.assign(state, { empty: false, drawn: false });
    state.pixels = levels[k];
    state.chosen = null;
    at("source").textContent = `test image ${rows[k]}: ${DATA.classes[labels[k]]}`;
    update();
  };
  at("gallery").hidden = at("or").hidden = false;
  at("gallery-text").textContent = "Choose one: it goes into the field above, and through the network.";
  fillGallery(at("gallery"), DATA, levels, (k) => {
    pick(k);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    at("try-title").scrollIntoView({ behavior: calm ? "auto" : "smooth" });
  });
  if (right.length) pick(right[Math.min(6, right.length - 1)]);
}

function fillTime() {
  if (!MOMENTS.length) return;
  at("time").hidden = false;
  document.body.classList.add("timed");
  at("moment").max = MOMENTS.length;
  at("moment").addEventListener("input", () => {
    stop();
    showMoment(Number(at("moment").value));
  });
  at("play").addEventListener("click", play);
  showMoment(MOMENTS.length);
}

fillHeader();
fillTraining();
fillDigits();
fillTime();
drawScale();
function redraw() {
  drawWeights();
  update();
}
new ResizeObserver(redraw).observe(document.querySelector("main"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  THEME.clear();
  redraw();
});
redraw();
