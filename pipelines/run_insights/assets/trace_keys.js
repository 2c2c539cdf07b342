// Keys follow the links of the page, unless something is being typed.
"use strict";
const LINKS = {ArrowLeft: "move-earlier", ArrowRight: "move-later", "+": "move-nearer",
  "=": "move-nearer", "-": "move-farther", 0: "move-whole", p: "move-before", n: "move-after"};
addEventListener("keydown", event => {
  const typing = event.target.closest("input, select, textarea, [role=listbox], [role=combobox], .dash-dropdown");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !LINKS[event.key]) return;
  const link = document.querySelector(`a.${LINKS[event.key]}`);
  if (!link) return;
  event.preventDefault();
  link.click();
});
