// The gallery: cards, filters, boxes and the large view. Reads the JSON in #data; writes text nodes
// and attributes only, so that names from outside stay text.
"use strict";
const detal = (() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const list = $("gallery"), form = $("form"), dialog = $("dialog");
  const MARGIN = 900;
  const cards = [], near = new Set();
  let shown = [], current = -1, opened = -1;
  const hooks = { status: () => true, opened: () => {}, inPlay: (i) => i < data.count, place: (i) => i };

  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };
  const draw = (tag, attributes) => {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const number = (value) => (value === null ? "none" : String(Number(value.toPrecision(3))));
  const threshold = () => Number($("threshold").value);

  // Boxes of one image are packed six numbers each: x, y, width, height, label, score.
  function boxesOf(image, least = threshold()) {
    const boxes = [];
    for (let k = 0; k < image.b.length; k += 6)
      if (image.b[k + 5] >= least) boxes.push(image.b.slice(k, k + 6));
    return boxes;
  }

  function boxesPicture(image, named) {
    const svg = draw("svg", { class: "boxes", viewBox: `0 0 ${image.w} ${image.h}`, "aria-hidden": "true" });
    const unit = Math.max(image.w, image.h) / 640;
    for (const [x, y, width, height, label, score] of boxesOf(image)) {
      svg.append(draw("rect", { class: "halo", x, y, width, height }));
      const box = draw("rect", { x, y, width, height });
      box.style.setProperty("--c", data.colors[label]);
      svg.append(box);
      if (!named) continue;
      const text = `${data.classes[label]} ${Math.round(100 * score)}%`;
      const top = y > 18 * unit ? y - 18 * unit : y;
      const plate = draw("rect", { x, y: top, width: (text.length * 8.2 + 8) * unit, height: 18 * unit });
      plate.style.setProperty("fill", data.colors[label]);
      plate.style.setProperty("stroke", "none");
      const word = draw("text", { x: x + 4 * unit, y: top + 13 * unit });
      word.style.setProperty("font-size", `${12.5 * unit}px`);
      word.textContent = text;
      svg.append(plate, word);
    }
    return svg;
  }

  function source(i, large) {
    if (data.served) return large ? `image/${i}` : `thumb/${i}`;
    const held = $(`t${i}`);
    return held && held.textContent ? `data:image/webp;base64,${held.textContent}` : null;
  }

  function picture(i, large = false) {
    const address = source(i, large);
    if (address === null) return make("span", { class: "gone" }, "image cannot be read");
    const node = make("img", { alt: "", width: data.images[i].w, height: data.images[i].h, decoding: "async" });
    node.addEventListener("error", () => node.replaceWith(make("span", { class: "gone" }, "image cannot be read")));
    node.src = address;
    return node;
  }

  function swatch(label) {
    const dot = make("i");
    dot.style.setProperty("--c", data.colors[label]);
    return dot;
  }

  function chips(image) {
    const counts = new Map();
    for (const box of boxesOf(image)) counts.set(box[4], (counts.get(box[4]) || 0) + 1);
    const order = [...counts].sort((a, b) => b[1] - a[1]);
    if (!order.length) return [make("span", {}, "no box from here up")];
    return order.map(([label, n]) => make("span", {}, swatch(label), `${n} ${data.classes[label]}`));
  }

  function card(image, i) {
    const pic = make("button", { class: "pic", type: "button", tabindex: "-1", "aria-label": `Open image ${i + 1}, ${image.n}` });
    const place = i < data.count ? `#${i + 1}` : `next ${i - data.count + 1}`;
    const title = make("h3", {}, make("span", { class: "rank" }, place), make("span", { class: "name", title: image.n }, image.n));
    const body = make("div", { class: "body" }, title, make("div", { class: "chips" }), make("p", { class: "why", title: image.r }, image.r));
    const node = make("li", {}, pic, body);
    node.hidden = true;
    pic.addEventListener("click", () => open(i));
    return { node, pic, body, chips: body.children[1] };
  }

  const fill = (i) => {
    const { pic, chips: row } = cards[i];
    pic.replaceChildren(picture(i), boxesPicture(data.images[i], false));
    row.replaceChildren(...chips(data.images[i]));
  };
  const drawAgain = (i) => {
    const svg = cards[i].pic.querySelector("svg");
    if (svg) svg.replaceWith(boxesPicture(data.images[i], false));
    cards[i].chips.replaceChildren(...chips(data.images[i]));
  };
  // Only the cards near the window are laid out, however many there are: all have one height, so
  // padding stands for the others, and nothing moves.
  let row = { columns: 1, height: 1 }, waiting = 0;
  function measure() {
    const gaps = getComputedStyle(list);
    row = { columns: gaps.gridTemplateColumns.split(" ").length,
      height: parseFloat(getComputedStyle(cards[0].node).height) + parseFloat(gaps.rowGap) };
  }
  function look() {
    waiting = 0;
    const top = list.getBoundingClientRect().top;
    const rows = Math.ceil(shown.length / row.columns);
    const place = (y) => Math.min(Math.max(0, Math.floor((y - top) / row.height)), rows);
    const first = place(-MARGIN), last = Math.min(place(innerHeight + MARGIN) + 1, rows);
    const wanted = new Set(shown.slice(first * row.columns, last * row.columns));
    for (const i of near) if (!wanted.has(i)) leave(i);
    for (const i of wanted) if (!near.has(i)) {
      near.add(i);
      cards[i].node.hidden = false;
      fill(i);
    }
    list.style.setProperty("padding-top", `${first * row.height}px`);
    list.style.setProperty("padding-bottom", `${(rows - last) * row.height + 40}px`);
    if (!wanted.has(current) && wanted.size) mark(shown[Math.min(place(0) * row.columns, shown.length - 1)]);
  }
  function leave(i) {
    near.delete(i);
    cards[i].node.hidden = true;
    cards[i].pic.replaceChildren();
  }
  const lookSoon = () => { waiting ||= requestAnimationFrame(look); };

  const orders = {
    rank: () => 0,
    score: (a, b) => (b.s ?? -Infinity) - (a.s ?? -Infinity),
    low: (a, b) => (a.s ?? Infinity) - (b.s ?? Infinity),
    boxes: (a, b) => b.e - a.e,
    cost: (a, b) => b.c - a.c,
    name: (a, b) => a.n.localeCompare(b.n, "en", { numeric: true }),
  };

  function fits(image, i) {
    const text = $("search").value.trim().toLowerCase();
    if (text && !`${image.n}\n${image.id}\n${image.g}\n${image.r}`.toLowerCase().includes(text)) return false;
    if ($("kind").value && image.k !== Number($("kind").value)) return false;
    const label = $("class").value;
    if (label && !boxesOf(image).some((box) => box[4] === Number(label))) return false;
    const least = $("least").value, most = $("most").value;
    if (least !== "" && !(image.s >= Number(least) && image.s !== null)) return false;
    if (most !== "" && !(image.s <= Number(most) && image.s !== null)) return false;
    return hooks.inPlay(i) && hooks.status(i);
  }

  function arrange() {
    const order = orders[$("sort").value];
    const all = data.images.map((_, i) => i).sort((a, b) =>
      order(data.images[a], data.images[b]) || hooks.place(a) - hooks.place(b));
    shown = all.filter((i) => fits(data.images[i], i));
    const held = document.activeElement;
    near.forEach(leave);
    list.append(...all.map((i) => cards[i].node));
    shown.forEach((i, k) => cards[i].node.setAttribute("aria-posinset", k + 1));
    for (const c of cards) c.node.setAttribute("aria-setsize", shown.length);
    const total = data.images.filter((_, i) => hooks.inPlay(i)).length;
    $("counted").textContent = `${shown.length.toLocaleString("en")} of ${total.toLocaleString("en")} images`;
    $("empty").hidden = shown.length > 0;
    look();
    if (list.contains(held)) held.focus({ preventScroll: true });
  }

  // One card at a time is in the tab order; arrow keys move it.
  function mark(i) {
    if (current >= 0) setTabs(current, "-1");
    current = i;
    if (i >= 0) setTabs(i, "0");
  }
  const setTabs = (i, value) => cards[i].node.querySelectorAll("button").forEach((b) => b.setAttribute("tabindex", value));
  function focus(i) {
    if (!near.has(i)) {
      const away = Math.floor(shown.indexOf(i) / row.columns) * row.height;
      scrollTo({ top: scrollY + list.getBoundingClientRect().top + away - innerHeight / 3, behavior: "instant" });
      look();
    }
    mark(i);
    cards[i].pic.focus({ preventScroll: true });
    cards[i].node.scrollIntoView({ block: "nearest", behavior: "instant" });
  }
  function step(by, from = current) {
    const place = Math.min(Math.max(shown.indexOf(from) + by, 0), shown.length - 1);
    return shown[place];
  }
  function keys(event) {
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row.columns, ArrowUp: -row.columns, Home: -Infinity, End: Infinity };
    if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey || !shown.length) return;
    event.preventDefault();
    focus(step(moves[event.key]));
  }

  function open(i) {
    opened = i;
    mark(i);
    const image = data.images[i];
    $("dialog-title").textContent = `${i < data.count ? `#${i + 1}` : "Next best"} ${image.n}`;
    $("dialog-why").textContent = image.r;
    $("full").replaceChildren(picture(i, true), boxesPicture(image, true));
    $("dialog-boxes").replaceChildren(...boxesOf(image).map((box) =>
      make("li", {}, swatch(box[4]), make("span", {}, data.classes[box[4]]), make("span", {}, box[5].toFixed(2)))));
    const facts = { score: number(image.s), "expected boxes": number(image.e), cost: `${number(image.c)} ${data.unit}`,
      size: `${image.w} × ${image.h} px`, group: image.g || "none", id: image.id, file: image.path };
    $("dialog-facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
    hooks.opened(i);
    if (!dialog.open) dialog.showModal();
  }
  const turn = (by) => open(step(by, opened));

  function options(select, names) {
    for (const [value, name] of names) select.append(make("option", { value }, name));
  }

  function start() {
    const perClass = new Array(data.classes.length).fill(0);
    for (const image of data.images.slice(0, data.count))
      for (const label of new Set(boxesOf(image, 0).map((box) => box[4]))) perClass[label] += 1;
    options($("class"), perClass.map((n, label) => [label, n]).filter((pair) => pair[1]).sort((a, b) => b[1] - a[1])
      .map(([label, n]) => [label, `${data.classes[label]} (${n})`]));
    options($("kind"), data.kinds.map((name, k) => [k, name]));
    $("kind-field").hidden = data.kinds.length < 2;
    const scored = data.images.some((image) => image.s !== null);
    $("least-field").hidden = $("most-field").hidden = !scored;
    $("threshold").min = $("threshold").defaultValue = data.min_score;
    $("threshold").value = data.min_score;
    data.images.forEach((image, i) => {
      cards.push(card(image, i));
      cards[i].node.dataset.i = i;
    });
    list.append(...cards.map((c) => c.node));
    listen();
    settle();
  }
  // Thumbnails come after this script in the file: pictures wait for them.
  function settle() {
    showThreshold();
    const go = () => {
      measure();
      arrange();
      addEventListener("scroll", lookSoon, { passive: true });
      addEventListener("resize", () => { measure(); near.forEach(leave); lookSoon(); });
    };
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", go);
    else go();
  }
  const showThreshold = () => { $("threshold-shown").textContent = threshold().toFixed(2); };

  function listen() {
    let redraw = 0;
    $("threshold").addEventListener("input", () => {
      showThreshold();
      cancelAnimationFrame(redraw);
      redraw = requestAnimationFrame(() => {
        near.forEach(drawAgain);
        if ($("class").value) arrange();
      });
    });
    $("show-boxes").addEventListener("change", (event) => document.body.classList.toggle("no-boxes", !event.target.checked));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => {
      if (!["threshold", "show-boxes"].includes(event.target.id)) arrange();
    });
    form.addEventListener("reset", () => setTimeout(() => {
      document.body.classList.remove("no-boxes");
      showThreshold();
      near.forEach(drawAgain);
      arrange();
    }));
    list.addEventListener("keydown", keys);
    list.addEventListener("focusin", (event) => {
      const node = event.target.closest("li");
      if (node && Number(node.dataset.i) !== current) mark(Number(node.dataset.i));
    });
    $("previous").addEventListener("click", () => turn(-1));
    $("next").addEventListener("click", () => turn(1));
    $("close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowRight") turn(1);
      if (event.key === "ArrowLeft") turn(-1);
    });
    dialog.addEventListener("close", () => focus(opened));
    if (matchMedia("(max-width: 640px)").matches) $("filters").open = false;
  }

  return { $, data, cards, hooks, make, start, arrange, focus, step, mark, open, dialog, list,
    current: () => current, opened: () => opened, shown: () => shown };
})();
