"use strict";

// Tables: every heading is a button that sorts by its column, numbers by their value.
for (const table of document.querySelectorAll("table")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const body = table.tBodies[0];
      const rows = [...body.rows].sort((one, other) => compareCells(one.cells[column], other.cells[column]));
      body.append(...(descending ? rows.reverse() : rows));
    });
  });
}

function compareCells(one, other) {
  const [first, second] = [one.dataset.value, other.dataset.value];
  if (first === undefined || second === undefined) return (first === undefined) - (second === undefined)
    || one.textContent.localeCompare(other.textContent, "en", { numeric: true });
  return Number(first) - Number(second);
}

// Plots: plotly lies in the page, compressed, so that the page needs no network and stays small.
const figures = [...document.querySelectorAll(".plot")];

async function unpack(element) {
  const packed = Uint8Array.from(atob(element.textContent.trim()), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

async function draw() {
  const script = document.createElement("script");
  script.textContent = await unpack(document.getElementById("plotly"));
  document.head.append(script);
  for (const figure of figures) {
    const { data, layout } = JSON.parse(document.getElementById(`${figure.id}-data`).textContent);
    await Plotly.newPlot(figure, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  }
}

// Paper: plots get a width that a page has. What is folded stays away; unfold what is to be printed.
const PAGE_WIDTH = 680;
addEventListener("beforeprint", () => {
  if (window.Plotly) figures.forEach((figure) => Plotly.relayout(figure, { width: PAGE_WIDTH }));
});
addEventListener("afterprint", () => {
  if (window.Plotly) figures.forEach((figure) => Plotly.relayout(figure, { width: null, autosize: true }));
});

draw().then(
  () => { document.documentElement.dataset.plots = "drawn"; },
  (error) => {
    document.documentElement.dataset.plots = "failed";
    document.getElementById("no-plots").hidden = false;
    console.error(error);
  },
);
