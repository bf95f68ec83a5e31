// A click on a column's head sorts the table: verdicts by rank, numbers by size, other text by letters, dashes last.
function key(row, column) {
  const cell = row.cells[column];
  return cell.querySelector(".said")?.dataset.rank ?? cell.textContent.trim().replace(/^–$/, "zzz");
}

function sort(table, head) {
  const body = table.tBodies[0];
  const up = head.ariaSort !== "ascending";
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.ariaSort = up ? "ascending" : "descending";
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  const rows = [...body.rows].map((row) => [key(row, head.cellIndex), row]);
  rows.sort(([a], [b]) => (up ? compare(a, b) : compare(b, a)));
  body.append(...rows.map(([, row]) => row));
}

document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table:has(.said):has(tbody tr:nth-child(4))")) {
    for (const head of table.tHead?.rows[0].cells ?? []) {
      const button = document.createElement("button");
      button.append(...head.childNodes);
      button.title = "sort";
      button.onclick = () => sort(table, head);
      head.append(button);
    }
  }
});
