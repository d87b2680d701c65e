// While the slider moves, its picture is asked anew; without this script the form's button does it.

const form = document.getElementById("age");
const slider = form.elements.example_age_days;
const picture = document.getElementById("ageing");
let isAsking = false;
let hasMoved = false;

async function ask() {
  const asked = new URLSearchParams(new FormData(form));
  const answer = await fetch(`${form.dataset.part}?${asked}`);
  if (!answer.ok) throw new Error(answer.statusText);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const isOpen = picture.querySelector("details")?.open ?? false;
  picture.replaceChildren(...fresh.body.childNodes);
  picture.querySelectorAll("details").forEach((one) => (one.open = isOpen));
  history.replaceState(null, "", `${form.getAttribute("action")}?${asked}`);
}

// One question at a time, however fast the slider moves; the last one is always asked.
slider.addEventListener("input", async () => {
  document.getElementById("told").textContent = slider.value;
  hasMoved = true;
  if (isAsking) return;
  isAsking = true;
  try {
    while (hasMoved) {
      hasMoved = false;
      await ask();
    }
  } catch {
    form.submit(); // whatever is amiss, the whole page tells it
  }
  isAsking = false;
});
