// The controls of the page. A control's value is read where it is needed; `onChange` redraws.

const $ = (id) => document.getElementById(id);
const numberOf = (id) => Number($(id).value);

function showValue(input) {
  const { unit } = input.dataset;
  const places = input.step.includes(".") ? 1 : 0;
  const text = `${Number(input.value).toFixed(places)}${unit ? ` ${unit}` : ""}`;
  input.nextElementSibling.textContent = text;
  input.setAttribute("aria-valuetext", text);
}

function setSlider(id, value) {
  const input = $(id);
  if (document.activeElement !== input || Number(input.value) !== value) input.value = value;
  showValue(input);
}

/** Fills a column of the table of values; null empties it. */
function showValues(column, values) {
  for (const key of ["hu", "suv", "prediction", "truth", "mm"]) {
    const cell = $(`${column}-${key}`);
    if (cell) cell.textContent = values ? values[key] : "–";
  }
}

/** Calls a function at most once per frame, however often it is asked to. */
function oncePerFrame(action) {
  let waits = false;
  return () => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => {
      waits = false;
      action();
    });
  };
}
