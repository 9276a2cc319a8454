// Puts moments into the reader's own zone and habits. `<time datetime="…">` holds UTC until then.
const language = document.documentElement.lang;
const short = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
const long = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "long" });

// Call it again for elements that are added to the page later.
export function localizeTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    element.textContent = short.format(moment);
    element.title = long.format(moment);
  }
}
