// Which curves are shown: one metric over one axis, and the strategies that are ticked.
"use strict";
(() => {
  const metric = document.getElementById("metric"), axis = document.getElementById("axis");
  const figures = [...document.querySelectorAll("figure.curves")];
  const pick = () => figures.forEach((figure) => {
    figure.hidden = figure.dataset.metric !== metric.value || figure.dataset.axis !== axis.value;
  });
  metric.addEventListener("change", pick);
  axis.addEventListener("change", pick);
  document.getElementById("series").addEventListener("change", (event) => {
    for (const figure of figures)
      figure.querySelectorAll("g.line")[Number(event.target.value)].toggleAttribute("hidden", !event.target.checked);
  });
  pick();
})();
