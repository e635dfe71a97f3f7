// Test images to try: right ones, the worst mistakes, and what was confused with what.

/** Number of classes up to which the table of confusions is shown. */
const WIDEST_TABLE = 12;

/** Return the levels, from 0 to 1, of every image in the gallery's data. */
function galleryLevels({ images, grey: isGrey, rows }) {
  const values = isGrey ? Float32Array.from(BYTES_OF(images), (level) => level / 255) : decodedFloats(images, false);
  const size = values.length / rows.length;
  return rows.map((_, k) => values.subarray(k * size, (k + 1) * size));
}

/** Fill `section` with buttons, each of which calls `pick` with the place of an image. */
function fillGallery(section, { digits, test, shape, classes }, levels, pick) {
  const group = (title, places, caption) => {
    const box = element("div", "", { class: "group", role: "group", "aria-label": title });
    for (const k of places) {
      const [label, read] = [classes[digits.labels[k]], classes[digits.read[k]]];
      const says = `Test image ${digits.rows[k]}: ${label}, read as ${read}`;
      const button = element("button", "", { type: "button", class: "digit", "aria-label": says, title: says });
      button.append(picture(levels[k], shape, (level) => grey(Math.min(Math.max(level, 0), 1))));
      if (caption) button.append(element("span", caption(label, read)));
      button.addEventListener("click", () => pick(k));
      box.append(button);
    }
    return box;
  };
  const add = (title, note, ...content) => {
    section.append(element("h3", title));
    if (note) section.append(element("p", note, { class: "note" }));
    section.append(...content);
  };
  if (digits.right.length) add("Read right", "", group("Read right", digits.right));
  if (digits.mistakes.length) {
    const note = "Wrong, and surest of it. Below each: what it is → what the network reads.";
    add("The worst mistakes", note, group("The worst mistakes", digits.mistakes, (label, read) => `${label} → ${read}`));
  }
  if (!digits.confusions.length) return;
  const pairs = element("div", "", { class: "pairs" });
  for (const { count, label, read, digits: places } of digits.confusions) {
    const title = `${classes[label]} read as ${classes[read]}`;
    const box = element("div", "", { class: "pair" }), heading = element("h4", title);
    heading.append(element("span", ` ${count} ×`));
    box.append(heading, group(title, places));
    pairs.append(box);
  }
  add("Confused most often", "", pairs);
  if (test.confusion.length <= WIDEST_TABLE) section.append(confusionTable(test, classes));
}

function confusionTable({ confusion, images }, classes) {
  const details = element("details"), table = element("table");
  const text = `What each class was read as: all ${images.toLocaleString("en")} test images`;
  const most = Math.max(...confusion.flatMap((row, j) => row.filter((_, k) => k !== j)), 1);
  const head = element("tr");
  head.append(element("th", "is \\ read", { scope: "col" }), ...confusion.map((_, k) => element("th", classes[k], { scope: "col" })));
  table.append(head);
  confusion.forEach((row, j) => {
    const line = element("tr");
    line.append(element("th", classes[j], { scope: "row" }));
    row.forEach((count, k) => {
      const cell = element("td", String(count), { class: j === k ? "right" : "" });
      if (j !== k) cell.style.setProperty("--share", count / most);
      line.append(cell);
    });
    table.append(line);
  });
  const scroll = element("div", "", { class: "scroll" });
  scroll.append(table);
  details.append(element("summary", text), scroll);
  return details;
}
