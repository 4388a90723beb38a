"use strict";

// Sorts the rows of the table by a column, and shows only those that pass all filters.

const table = document.getElementById("cases");
const body = table.tBodies[0];
const headings = [...table.tHead.rows[0].cells];
const rows = [...body.rows];
const field = (name) => document.getElementById(name);

/** The content of a cell as a number, as text in lower case, or as null if the cell is empty. */
function content(row, column) {
  const cell = row.cells[column];
  const data = cell.querySelector("data");
  if (data !== null) return data.value === "" ? null : Number(data.value);
  return cell.textContent.trim().toLowerCase() || null;
}

/** Empty cells come last in both directions. */
function compare(first, second, direction) {
  if (first === null || second === null) return (first === null) - (second === null);
  if (typeof first === "number" && typeof second === "number") return direction * (first - second);
  return direction * String(first).localeCompare(String(second), "en", { numeric: true });
}

function sortBy(heading) {
  const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const each of headings) each.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  const column = headings.indexOf(heading);
  const keys = new Map(rows.map((row) => [row, content(row, column)]));
  rows.sort((a, b) => compare(keys.get(a), keys.get(b), direction));
  body.append(...rows);
}

function passes(row) {
  const named = headings.findIndex((each) => each.textContent.trim() === "Case");
  const doubts = row.dataset.doubts === "" ? [] : row.dataset.doubts.split("|");
  const doubt = field("doubt").value;
  const least = field("least").value, most = field("most").value;
  const value = content(row, named + 2 + Number(field("column").value));
  return row.cells[named].textContent.toLowerCase().includes(field("case").value.toLowerCase())
    && (field("centre").value === "" || row.cells[named + 1].textContent === field("centre").value)
    && (doubt === "" || (doubt === "*" && doubts.length > 0)
      || (doubt === "-" && doubts.length === 0) || doubts.includes(doubt))
    && (least === "" || (value !== null && value >= Number(least)))
    && (most === "" || (value !== null && value <= Number(most)))
    && (!field("failed").checked || "failed" in row.dataset);
}

function filter() {
  for (const row of rows) row.hidden = !passes(row);
  const shown = rows.filter((row) => !row.hidden).length;
  field("count").textContent = `${shown} of ${rows.length} cases`;
}

for (const heading of headings) {
  heading.querySelector("button")?.addEventListener("click", () => sortBy(heading));
}
for (const event of ["input", "change"]) field("filters").addEventListener(event, filter);
field("show-all").addEventListener("click", () => {
  field("filters").reset();
  filter();
});
field("filters").addEventListener("submit", (event) => event.preventDefault());
