// A click counts only where its press began and ended on one element: nothing may be drawn anew under a finger.
let release;
let released = Promise.resolve();
addEventListener("pointerdown", () => { released = new Promise((resolve) => { release = resolve; }); }, true);
for (const end of ["pointerup", "pointercancel", "blur"]) {
  // The click itself comes right after the pointer is up.
  addEventListener(end, () => setTimeout(() => release?.()), true);
}

// Settles once no pointer is pressed.
export function unpressed() {
  return released;
}
