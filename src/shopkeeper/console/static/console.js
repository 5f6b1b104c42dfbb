// The console by keyboard and mouse: every page works without it, with it faster.
"use strict";

// Ctrl+Enter (or Cmd+Enter) in an editor sends its form
document.addEventListener("keydown", (event) => {
  const at = event.target;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && at.dataset && at.dataset.submit) {
    event.preventDefault();
    at.form.requestSubmit();
  }
  // "/" goes to the search box, Escape leaves a field
  const typing = at.matches && at.matches("input, textarea, select");
  const finder = document.querySelector("main [role=search] input");
  if (event.key === "/" && !typing && finder && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    finder.focus();
  }
  if (event.key === "Escape" && typing) at.blur();
});

// a name beside the editor is put where the caret is
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-insert]");
  if (!button) return;
  const into = document.querySelector(button.dataset.into);
  const start = into.selectionStart;
  const gap = start > 0 && /[\w"]/.test(into.value[start - 1]) ? " " : "";
  into.setRangeText(gap + button.dataset.insert, start, into.selectionEnd, "end");
  into.focus();
  into.dispatchEvent(new Event("input", { bubbles: true }));
});

// a list is narrowed as one types
for (const field of document.querySelectorAll("[data-narrow]")) {
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    for (const one of document.querySelectorAll(field.dataset.narrow)) {
      one.hidden = wanted !== "" && !one.dataset.words.toLowerCase().includes(wanted);
    }
  });
}

// where the query is wrong, the caret stands
for (const editor of document.querySelectorAll("textarea[data-at]")) {
  const found = /line (\d+), column (\d+)/.exec(editor.dataset.at);
  if (!found) continue;
  const before = editor.value.split("\n").slice(0, found[1] - 1).join("\n");
  const place = before.length + (found[1] > 1 ? 1 : 0) + Number(found[2]) - 1;
  editor.focus();
  editor.setSelectionRange(place, place);
}

// what cannot be undone asks once
document.addEventListener("submit", (event) => {
  const asked = event.target.dataset.confirm;
  if (asked && !window.confirm(asked)) event.preventDefault();
});

// a mistake's line: click, and the caret is there
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-line]");
  const found = button && /line (\d+)/.exec(button.dataset.line);
  if (!found) return;
  const editor = document.querySelector(button.dataset.into);
  const lines = editor.value.split("\n");
  const start = lines.slice(0, found[1] - 1).join("\n").length + (found[1] > 1 ? 1 : 0);
  editor.focus();
  editor.setSelectionRange(start, start + (lines[found[1] - 1] || "").length);
  editor.scrollTop = (editor.scrollHeight * (found[1] - 5)) / lines.length;
});

// on a narrow screen the page one is on is seen in the row of pages
for (const current of document.querySelectorAll(".below [aria-current], .tabs [aria-current]")) {
  const row = current.parentElement;
  row.scrollLeft = current.offsetLeft - row.offsetLeft - (row.clientWidth - current.clientWidth) / 2;
}
