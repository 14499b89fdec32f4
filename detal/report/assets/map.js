// The map: the image at hand is ringed, and a click leads to the nearest image of the batch.
"use strict";
(() => {
  const map = document.querySelector("svg.map");
  if (!map) return;
  const [middleX, middleY] = map.dataset.middle.split(",").map(Number);
  const reach = Number(map.dataset.reach), half = map.viewBox.baseVal.width / 2;
  const marker = map.querySelector(".marker");
  const place = ([x, y]) => [half * (1 + (x - middleX) / reach), half * (1 - (y - middleY) / reach)];
  const ring = (event) => {
    const node = event.target.closest("li");
    const point = node && detal.data.images[Number(node.dataset.i)].p;
    if (!point) return;
    const [x, y] = place(point);
    marker.setAttribute("cx", x);
    marker.setAttribute("cy", y);
  };
  detal.list.addEventListener("pointerover", ring);
  detal.list.addEventListener("focusin", ring);
  map.addEventListener("click", (event) => {
    const area = map.getBoundingClientRect(), scale = (2 * half) / area.width;
    const at = [(event.clientX - area.left) * scale, (event.clientY - area.top) * scale];
    let best = -1, least = Infinity;
    for (const i of detal.shown()) {
      const point = detal.data.images[i].p;
      if (!point) continue;
      const [x, y] = place(point), away = (x - at[0]) ** 2 + (y - at[1]) ** 2;
      if (away < least) [best, least] = [i, away];
    }
    if (best >= 0) detal.focus(best);
  });
})();
