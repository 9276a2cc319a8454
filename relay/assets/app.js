// What every page has. Everything works without it, a little less comfortably.
import { localizeTimes } from "./time.js";
import { addCopyButtons } from "./copy.js";

localizeTimes(document);
addCopyButtons(document);

// An open menu closes when something else is clicked, or on Escape.
const menus = document.querySelectorAll("details.menu");
document.addEventListener("click", (event) => {
  for (const menu of menus) {
    if (menu.open && !menu.contains(event.target)) menu.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of menus) {
    if (!menu.open) continue;
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});
