// Gives every `.copy` block a button. Without it one click selects the whole text, by style alone.
const { copy, copied } = document.body.dataset;
const SHOWN_FOR_MS = 2000;

// Call it again for elements that are added to the page later.
export function addCopyButtons(root) {
  for (const block of root.querySelectorAll(".copy:not(:has(> button))")) {
    const text = block.querySelector("pre, code");
    if (!text) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = copy;
    button.setAttribute("aria-live", "polite");
    button.addEventListener("click", () => copyText(text, button));
    block.append(button);
  }
}

async function copyText(element, button) {
  try {
    await navigator.clipboard.writeText(element.textContent);
  } catch {
    // Over plain HTTP there is no clipboard: the text is selected, Ctrl-C does the rest.
    getSelection().selectAllChildren(element);
    return;
  }
  button.textContent = copied;
  setTimeout(() => { button.textContent = copy; }, SHOWN_FOR_MS);
}
