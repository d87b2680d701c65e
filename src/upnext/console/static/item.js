// While the slider moves, its picture is asked anew; without this script the form's button does it.

const form = document.getElementById("age");
const slider = form.elements.example_age_days;
const picture = document.getElementById("ageing");
let waiting;
let asking = new AbortController();

async function show() {
  asking.abort();
  asking = new AbortController();
  const asked = new URLSearchParams(new FormData(form));
  try {
    const answer = await fetch(`${form.dataset.part}?${asked}`, { signal: asking.signal });
    if (!answer.ok) return form.submit(); // whatever is amiss, the whole page tells it
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const isOpen = picture.querySelector("details")?.open ?? false;
    picture.replaceChildren(...fresh.body.childNodes);
    picture.querySelectorAll("details").forEach((one) => (one.open = isOpen));
    history.replaceState(null, "", `${form.getAttribute("action")}?${asked}`);
  } catch (error) {
    if (error.name !== "AbortError") form.submit();
  }
}

slider.addEventListener("input", () => {
  document.getElementById("told").textContent = slider.value;
  clearTimeout(waiting);
  waiting = setTimeout(show, 120);
});
