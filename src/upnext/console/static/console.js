// Keeps a page fresh by asking for it again, and switches between light and dark. A page without
// this script is whole; it is only not renewed.

const banner = document.getElementById("banner");

function tell(text) {
  banner.textContent = text;
  banner.hidden = text === "";
}

// What is open stays open, and what has the focus is left alone, while the rest is renewed.
function renew(fresh) {
  for (const old of document.querySelectorAll("[data-live][id]")) {
    const now = fresh.getElementById(old.id);
    if (!now || old.contains(document.activeElement) || old.innerHTML === now.innerHTML) continue;
    const open = [...old.querySelectorAll("details")].map((one) => one.open);
    old.replaceChildren(...now.childNodes);
    old.querySelectorAll("details").forEach((one, place) => (one.open = open[place] ?? one.open));
    old.dispatchEvent(new CustomEvent("renewed", { bubbles: true }));
  }
}

async function refresh() {
  let answer;
  try {
    answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  } catch {
    return tell("The console does not answer. Trying again.");
  }
  if (answer.status === 503) {
    return tell("The server does not answer; this page shows what was last known. Trying again.");
  }
  tell("");
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  // A page of another kind, such as one that had an error before, is taken whole.
  const isSame = fresh.querySelector("h1")?.textContent === document.querySelector("h1")?.textContent;
  if (isSame) renew(fresh);
  else location.reload();
}

const everySeconds = Number(document.getElementById("main").dataset.refreshS);
if (everySeconds > 0) {
  const again = async () => {
    if (!document.hidden) await refresh();
    setTimeout(again, everySeconds * 1000);
  };
  setTimeout(again, everySeconds * 1000);
}

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=strict`;
});

// A button with data-copies copies the text of the element that it names.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copies]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copies).textContent);
  button.textContent = "Copied";
});
