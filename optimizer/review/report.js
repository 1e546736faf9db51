// Search, filter and sort for the report's tables. Rows are shown, hidden and moved; nothing is made.
"use strict";
(() => {
  const compare = new Intl.Collator("en", { numeric: true, sensitivity: "base" }).compare;

  for (const table of document.querySelectorAll("table[data-search]")) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const tools = document.getElementById(table.dataset.search);
    const text = tools.querySelector("input[type=search]");
    const choice = tools.querySelector("select");
    const count = tools.querySelector("output");
    const words = rows.map((row) => row.textContent.toLowerCase());

    const filter = () => {
      const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, index) => {
        const fits = (!choice.value || row.dataset.kind === choice.value)
          && wanted.every((word) => words[index].includes(word));
        row.hidden = !fits;
        shown += fits;
      });
      count.textContent = `${shown} of ${rows.length}`;
    };
    text.addEventListener("input", filter);
    choice.addEventListener("change", filter);
    filter();

    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const numbers = "number" in head.dataset;
        const before = head.getAttribute("aria-sort");
        // Numbers are first wanted from the greatest, names from the first.
        const down = before ? before === "ascending" : numbers;
        heads.forEach((one) => one.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
        const order = (one, other) => {
          const [a, b] = [key(one), key(other)];
          // What is not known stays last, whichever way it is sorted.
          if (a === "" || b === "") return (a === "") - (b === "");
          return (numbers ? a - b : compare(a, b)) * (down ? -1 : 1);
        };
        body.append(...[...rows].sort(order));
      });
    });
  }

  const theme = document.getElementById("theme");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    theme.setAttribute("aria-pressed", String(!dark));
  });

  // Paper shows what is folded on the screen, and all rows.
  addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("details")) one.open = true;
  });
})();
