// Decisions about the images: sent to the server one by one, which keeps them and answers with all.
"use strict";
(() => {
  const { $, data, cards, hooks, make, arrange, focus, step, dialog, list } = detal;
  let state = data.state;
  const words = { accepted: "Accepted", rejected: "Rejected" };
  const verdict = (i) => state.verdicts[i] || "";

  hooks.inPlay = (i) => i < data.count || state.came.includes(i);
  hooks.status = (i) => {
    const wanted = $("status").value;
    if (wanted === "came") return i >= data.count;
    return wanted === "" || (verdict(i) || "open") === wanted;
  };
  // What comes instead stands behind the image it came for.
  hooks.place = (i) => {
    if (i < data.count) return i;
    for (const [old, by] of Object.entries(state.replaced_by)) if (by === i) return hooks.place(Number(old)) + 0.001;
    return i;
  };
  hooks.opened = (i) => press(dialog.querySelectorAll("[data-verdict]"), i);

  function press(buttons, i) {
    for (const button of buttons)
      if (button.dataset.verdict !== "replaced")
        button.setAttribute("aria-pressed", String(verdict(i) === button.dataset.verdict));
  }

  function dress(i) {
    const { node, body } = cards[i];
    const actions = make("div", { class: "actions" });
    for (const [value, name, long] of [["accepted", "Accept", "Accept"], ["rejected", "Reject", "Reject"], ["replaced", "Next best", "Next best instead of"]]) {
      const button = make("button", { type: "button", "data-verdict": value, tabindex: "-1",
        class: { accepted: "accept", rejected: "reject", replaced: "replace" }[value],
        "aria-label": `${long} image ${i + 1}, ${data.images[i].n}` }, name);
      button.addEventListener("click", () => decide(i, verdict(i) === value ? "" : value));
      actions.append(button);
    }
    body.append(actions);
    node.append(make("span", { class: "badge", hidden: "" }));
    refresh(i);
  }

  function refresh(i) {
    const { node } = cards[i], badge = node.querySelector(".badge");
    node.classList.remove("accepted", "rejected");
    if (verdict(i)) node.classList.add(verdict(i));
    const by = state.replaced_by[i];
    const notes = [words[verdict(i)], by === undefined ? "" : `next ${by - data.count + 1} came instead`].filter(Boolean);
    if (!notes.length && i >= data.count) notes.push("Next best");
    badge.hidden = !notes.length;
    badge.textContent = notes.join(", ");
    press(node.querySelectorAll("[data-verdict]"), i);
  }

  function say(text, bad = false) {
    $("said").textContent = text;
    $("said").classList.toggle("bad", bad);
  }

  function summarise() {
    const { decided, total, kept, spent, budget } = state.summary;
    $("decided").max = Math.max(total, 1);
    $("decided").value = decided;
    $("summary").textContent = `${decided} of ${total} decided, ${kept} kept for ${spent} of ${budget}`;
    $("export").textContent = `Write manifest (${kept})`;
  }

  async function ask(path, body) {
    const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.error);
    return said;
  }

  async function decide(i, value) {
    try {
      const before = state.came.length;
      const answer = await ask("decide", { image: i, verdict: value });
      state = answer.state;
      cards.forEach((_, k) => refresh(k));
      if (state.came.length !== before) arrange();
      summarise();
      say(answer.said);
      hooks.opened(i);
    } catch (error) {
      say(`Not saved: ${error.message}`, true);
    }
  }

  function keys(event, i, after) {
    const value = { a: "accepted", x: "rejected", n: "replaced", u: "" }[event.key.toLowerCase()];
    if (value === undefined || event.ctrlKey || event.metaKey || event.altKey || i < 0) return;
    event.preventDefault();
    decide(i, value).then(() => { if (value) after(); });
  }

  cards.forEach((_, i) => dress(i));
  summarise();
  list.addEventListener("keydown", (event) => {
    const i = detal.current();
    keys(event, i, () => focus(step(1, i)));
  });
  dialog.addEventListener("keydown", (event) => {
    const i = detal.opened();
    keys(event, i, () => { if (step(1, i) !== i) detal.open(step(1, i)); });
  });
  for (const button of dialog.querySelectorAll("[data-verdict]"))
    button.addEventListener("click", () => {
      const i = detal.opened(), value = button.dataset.verdict;
      decide(i, verdict(i) === value ? "" : value);
    });
  $("export").addEventListener("click", async () => {
    $("export").disabled = true;
    say("Writing…");
    try {
      say((await ask("export", {})).said);
    } catch (error) {
      say(`Not written: ${error.message}`, true);
    }
    $("export").disabled = false;
  });
})();
