"use strict";
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const film = data.frames.map((png) => Object.assign(new Image(), { src: "data:image/png;base64," + png }));
const lastFrame = film.length - 1;
const losses = data.losses;
const lastStep = losses.last[losses.last.length - 1];
const axisEnd = lastStep === 1 ? 1.1 : lastStep; // as LossCurves.x_axis
const count = (number) => number.toLocaleString("en");
const percent = (share) => 100 * share + "%";
let frame = lastFrame;
let timer = null;
let readStep = lastStep;

function show(index) {
  frame = index;
  const step = "step " + count(data.steps[index]);
  $("film").src = film[index].src;
  $("film").alt = "25 generated images at " + step;
  $("slider").value = index;
  $("slider").setAttribute("aria-valuetext", step);
  $("film-step").textContent = step;
  if (!$("area").matches(":hover, :focus-visible")) read(data.steps[index]);
}

function play() {
  $("play").textContent = "Pause";
  timer = setTimeout(() => {
    show(frame === lastFrame ? 0 : frame + 1);
    play();
  }, frame === lastFrame ? data.hold_ms : data.frame_ms);
}

function pause() {
  clearTimeout(timer);
  timer = null;
  $("play").textContent = "Play";
}

$("play").addEventListener("click", () => {
  if (timer !== null) return pause();
  if (frame === lastFrame) show(0);
  play();
});
$("slider").addEventListener("input", () => {
  pause();
  show(Number($("slider").value));
});

function read(step) {
  readStep = Math.min(Math.max(Math.round(step), 1), lastStep);
  const bucket = losses.first.findLastIndex((first) => first <= readStep);
  const [first, last] = [losses.first[bucket], losses.last[bucket]];
  const left = percent((first + last) / 2 / axisEnd);
  const values = ["g", "d"].map((name) => {
    const { low, mean, high } = losses[name + "_loss"];
    const value = mean[bucket].toPrecision(4);
    $(name + "-value").textContent = value;
    $(name + "-range").textContent = first === last ? "" : low[bucket].toPrecision(4) + "\u2013" + high[bucket].toPrecision(4);
    $(name + "-dot").style.left = left;
    $(name + "-dot").style.top = percent((losses.top - mean[bucket]) / (losses.top - losses.bottom));
    return name + "_loss " + value;
  });
  $("read-step").textContent = "at step " + count(readStep);
  $("read-bucket").textContent = first === last ? "" : "mean of " + count(first) + "\u2013" + count(last);
  $("read-mark").style.left = left;
  $("area").setAttribute("aria-valuenow", readStep);
  $("area").setAttribute("aria-valuetext", "at step " + count(readStep) + ": " + values.join(", "));
}

function stepAt(event) {
  const box = $("area").getBoundingClientRect();
  return ((event.clientX - box.left) / box.width) * axisEnd;
}

$("area").addEventListener("pointermove", (event) => read(stepAt(event)));
$("area").addEventListener("pointerdown", (event) => read(stepAt(event)));
$("area").addEventListener("click", () => {
  const after = data.steps.findIndex((step) => step >= readStep);
  const nearest = after < 1 ? (after === 0 ? 0 : lastFrame)
    : data.steps[after] - readStep < readStep - data.steps[after - 1] ? after : after - 1;
  pause();
  show(nearest);
});
$("area").addEventListener("keydown", (event) => {
  const stride = lastStep / losses.first.length;
  const moves = { ArrowLeft: -stride, ArrowDown: -stride, ArrowRight: stride, ArrowUp: stride, PageDown: -10 * stride,
    PageUp: 10 * stride, Home: -lastStep, End: lastStep };
  if (!(event.key in moves)) return;
  event.preventDefault();
  read(readStep + moves[event.key]);
});

$("no-script").hidden = true;
for (const id of ["controls", "read-mark", "g-dot", "d-dot"]) $(id).hidden = false;
$("play").disabled = $("slider").disabled = lastFrame === 0;
show(lastFrame);
if (lastFrame > 0 && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
  show(0);
  play();
}
