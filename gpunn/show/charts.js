// Curves over the epochs of the training.

const SVG = "http://www.w3.org/2000/svg";
const CHART = { width: 420, height: 240, left: 46, right: 14, top: 12, bottom: 36 };

function svg(tag, attributes, text = "") {
  const found = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  found.textContent = text;
  return found;
}

/** Return round numbers from `low` to `high`, about four. */
function ticks(low, high) {
  const rough = (high - low) / 4 || 1, size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * size).find((k) => k >= rough);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
  return found;
}

/**
 * Return a figure with lines over the epochs; each of `series` is { name, values, style }, and values are null where
 * they aren't known. `write` makes text of a value.
 */
function chart(title, epochs, series, write) {
  const { width, height, left, right, top, bottom } = CHART;
  const all = series.flatMap(({ values }) => values.filter((value) => value !== null));
  let [low, high] = [Math.min(...all), Math.max(...all)];
  const margin = (high - low) * 0.08 || Math.abs(high) * 0.1 || 0.1;
  [low, high] = [Math.max(low - margin, 0), high + margin];
  const last = epochs.at(-1), first = epochs[0];
  const x = (epoch) => left + ((epoch - first) / (last - first || 1)) * (width - left - right);
  const y = (value) => height - bottom - ((value - low) / (high - low)) * (height - top - bottom);
  const ends = series.map(({ name, values }) => `${name} ${write(values.find((v) => v !== null))} to ${write(values.findLast((v) => v !== null))}`);
  const drawn = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: ${ends.join(", ")}` });
  for (const value of ticks(low, high)) {
    drawn.append(svg("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid" }));
    drawn.append(svg("text", { x: left - 6, y: y(value) + 4, class: "end" }, write(value)));
  }
  for (const epoch of ticks(first, last).filter(Number.isInteger))
    drawn.append(svg("text", { x: x(epoch), y: height - bottom + 16, class: "middle" }, String(epoch)));
  drawn.append(svg("text", { x: (left + width - right) / 2, y: height - 4, class: "middle" }, "epoch"));
  for (const { values, style } of series) {
    const points = values.flatMap((value, k) => (value === null ? [] : [`${x(epochs[k])},${y(value)}`]));
    drawn.append(svg("polyline", { points: points.join(" "), class: `curve ${style}` }));
    if (points.length === 1) {
      const [cx, cy] = points[0].split(",");
      drawn.append(svg("circle", { cx, cy, r: 4, class: `dot ${style}` }));
    }
  }
  const now = svg("line", { x1: 0, x2: 0, y1: top, y2: height - bottom, class: "now", visibility: "hidden" });
  drawn.append(now);
  const figure = element("figure", "", { class: "chart" }), caption = element("figcaption");
  caption.append(element("b", title));
  for (const { name, style } of series) caption.append(element("span", name, { class: `key ${style}` }));
  figure.append(caption, drawn);
  return {
    figure,
    /** Mark a moment of the training, in epochs. */
    mark(epoch) {
      const place = x(Math.min(Math.max(epoch, first), last));
      now.setAttribute("x1", place);
      now.setAttribute("x2", place);
      now.setAttribute("visibility", "visible");
    },
  };
}

/** Return the charts of `epochs`, as gpunn's History gives them as JSON. */
function trainingCharts(epochs) {
  const column = (name) => epochs.map((epoch) => epoch[name] ?? null);
  const numbers = column("epoch");
  const known = (series) => series.filter(({ values }) => values.some((value) => value !== null));
  const losses = known([
    { name: "training", values: column("loss"), style: "first" },
    { name: "held out", values: column("held_out_loss"), style: "third" },
    { name: "test", values: column("test_loss"), style: "second" },
  ]);
  const accuracies = known([
    { name: "training", values: column("train_accuracy"), style: "first" },
    { name: "held out", values: column("held_out_accuracy"), style: "third" },
    { name: "test", values: column("test_accuracy"), style: "second" },
  ]);
  const found = [chart("Loss", numbers, losses, (value) => number(value))];
  if (accuracies.length) found.push(chart("Accuracy", numbers, accuracies, (value) => percent(value, 1)));
  return found;
}
