"use strict";
/* Theme, sorting, the confusion matrix's arrow keys and the explanation gallery. Without it all is there to read. */
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  // ── light and dark ──
  const memory = {
    get theme() { try { return localStorage.getItem("theme") || "auto"; } catch { return "auto"; } },
    set theme(name) { try { localStorage.setItem("theme", name); } catch { /* a page opened as a file may not be let */ } },
  };
  const showTheme = (name) => { root.dataset.theme = name; };
  showTheme(memory.theme);

  function themeSwitch() {
    for (const choice of document.querySelectorAll("input[name=theme]")) {
      choice.checked = choice.value === root.dataset.theme;
      choice.addEventListener("change", () => { showTheme(choice.value); memory.theme = choice.value; });
    }
  }

  // ── tables ──
  function sortable(table) {
    const body = table.tBodies[0];
    const headings = [...table.tHead.rows].at(-1).cells;  // below those of groups of columns
    for (const [column, heading] of [...headings].entries()) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const first = heading.dataset.first || (column ? "descending" : "ascending");
        const other = first === "ascending" ? "descending" : "ascending";
        const order = heading.getAttribute("aria-sort") === first ? other : first;
        for (const each of headings) each.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", order);
        body.append(...[...body.rows].sort(compare(column, order === "ascending" ? 1 : -1)));
      });
    }
  }

  function compare(column, sign) {
    const value = (row) => row.cells[column]?.dataset.value ?? "";
    return (one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === "" || b === "") return (a === "") - (b === ""); // rows without a figure stay at the end
      return sign * (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
    };
  }

  const markScrolling = (table) => { table.classList.toggle("scrolls", table.scrollWidth > table.clientWidth + 1); };

  // ── confusion matrix: one stop of the Tab key, then arrows ──
  function arrows(matrix) {
    const rows = [...matrix.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll("td")]);
    const cells = matrix.querySelectorAll("button.cell");
    cells.forEach((cell, number) => { cell.tabIndex = number ? -1 : 0; });
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    matrix.addEventListener("keydown", (event) => {
      if (event.key === "Escape") document.activeElement.blur();
      const [down, right] = step[event.key] || [0, 0];
      let y = rows.findIndex((row) => row.some((cell) => cell.contains(document.activeElement)));
      if (y < 0 || !(down || right)) return;
      let x = rows[y].findIndex((cell) => cell.contains(document.activeElement));
      event.preventDefault();
      for (y += down, x += right; rows[y]?.[x]; y += down, x += right) {
        const next = rows[y][x].querySelector("button"); // cells without faces are passed over
        if (!next) continue;
        cells.forEach((cell) => { cell.tabIndex = cell === next ? 0 : -1; });
        next.focus();
        break;
      }
    });
  }

  // ── explanations ──
  function gallery(box) {
    const form = box.querySelector("form");
    const cards = [...box.querySelectorAll(".card")];
    const stops = [...box.querySelectorAll(".filmstrip li")];
    const count = form.querySelector("output");
    const view = form.querySelector(".view");
    let current = cards[0];
    let left = cards;

    function show(card, focus) {
      current = card;
      cards.forEach((each, number) => {
        each.classList.toggle("current", each === card);
        const link = stops[number].firstElementChild;
        if (each === card) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
      });
      if (!card) return;
      const strip = stops[0].parentElement;
      const stop = stops[cards.indexOf(card)];
      strip.scrollLeft = stop.offsetLeft - strip.offsetLeft - (strip.clientWidth - stop.offsetWidth) / 2;
      if (focus) card.focus({ preventScroll: box.dataset.view === "one" });
    }

    function filter() {
      const wanted = Object.fromEntries(new FormData(form));
      const methods = new Set(new FormData(form).getAll("method"));
      const [low, high] = wanted.confidence.split(" ").map(Number);
      for (const tile of box.querySelectorAll(".tile")) tile.hidden = !methods.has(tile.dataset.method);
      left = cards.filter((card, number) => {
        for (const answer of card.querySelectorAll(".answer")) {
          const facts = answer.dataset;
          answer.hidden = !(
            (!wanted.true || card.dataset.true === wanted.true)
            && (!wanted.predicted || facts.predicted === wanted.predicted)
            && (!wanted.verdict || facts.verdict === wanted.verdict)
            && (!wanted.model || facts.model === wanted.model)
            && facts.confidence >= low && (facts.confidence < high || high === 1)
            && answer.querySelector(".tile:not([hidden])")
          );
        }
        card.hidden = !card.querySelector(".answer:not([hidden])");
        stops[number].hidden = card.hidden;
        return !card.hidden;
      });
      count.textContent = left.length === 1 ? "1 face" : `${left.length} faces`;
      box.querySelector(".none-left").hidden = left.length > 0;
      show(left.includes(current) ? current : left[0]);
    }

    form.addEventListener("change", filter);
    form.elements.scale?.addEventListener("change", (event) => { box.dataset.scale = event.target.value; });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.elements.blend.addEventListener("input", (event) => {
      box.style.setProperty("--blend", event.target.value / 100);
    });
    view.addEventListener("click", () => {
      const all = box.dataset.view === "one";
      box.dataset.view = all ? "all" : "one";
      view.setAttribute("aria-pressed", all);
    });
    for (const [number, stop] of stops.entries()) {
      stop.addEventListener("click", (event) => {
        if (box.dataset.view === "all") return; // the link goes to the face
        event.preventDefault();
        show(cards[number]);
      });
    }
    filter();
    return {
      box,
      move: (by) => {
        const next = left[left.indexOf(current) + by];
        if (next) show(next, true);
      },
    };
  }

  function inView({ box }) {
    const { top, bottom } = box.getBoundingClientRect();
    return box.contains(document.activeElement) || (top < innerHeight / 2 && bottom > innerHeight / 3);
  }

  function keyboard(galleries) {
    document.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const busy = event.target.closest("input, select, textarea, .confusion");
      if (!by || busy || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
      const shown = galleries.find(({ box }) => box.contains(document.activeElement)) || galleries.find(inView);
      if (!shown) return;
      event.preventDefault();
      shown.move(by);
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    themeSwitch();
    document.querySelectorAll("table.sortable").forEach(sortable);
    document.querySelectorAll(".confusion").forEach(arrows);
    const sizes = new ResizeObserver((changed) => { for (const { target } of changed) markScrolling(target); });
    document.querySelectorAll(".table.wide").forEach((table) => sizes.observe(table));
    keyboard([...document.querySelectorAll(".gallery")].map(gallery));
  });
})();
