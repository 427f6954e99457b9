// Slice sliders: three planes of one volume, drawn from pictures in which its axial slices lie side by side.
"use strict";
(() => {
  const root = document.getElementById("browse");
  const numbers = (name) => root.dataset[name].split(" ").map(Number);
  const [X, Y, Z] = numbers("grid"), mm = numbers("mm"), first = numbers("first"), step = numbers("step");
  const columns = Number(root.dataset.columns);
  const slow = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const sheets = {};
  for (const sheet of root.querySelectorAll("img[data-name]")) sheets[sheet.dataset.name] = sheet;
  const figures = [0, 1, 2].map((axis) => root.querySelector(`figure[data-axis="${axis}"]`)); // sagittal first
  const [canvases, sliders, outputs] = ["canvas", "input", "output"].map((tag) => figures.map((f) => f.querySelector(tag)));
  const sides = [[Y, Z, 1, 2], [X, Z, 0, 2], [X, Y, 0, 1]]; // width, height, and the axes they run along
  const radios = [...root.querySelectorAll("input[type=radio]")];
  const flicker = root.querySelector("input[type=checkbox]");
  let isBefore = false;

  const chosen = () => flicker.checked ? (isBefore ? "before" : "after") : radios.find((r) => r.checked).value;

  // Where slice z begins in the sheet.
  const corner = (z) => [(z % columns) * X, Math.floor(z / columns) * Y];

  const draw = () => {
    const name = chosen(), sheet = sheets[name], [x, y, z] = sliders.map((s) => Number(s.value));
    canvases.forEach((canvas, axis) => {
      const pen = canvas.getContext("2d");
      pen.imageSmoothingEnabled = false;
      if (axis === 2) pen.drawImage(sheet, ...corner(z), X, Y, 0, 0, X, Y);
      for (let k = 0; axis < 2 && k < Z; k++) {
        const [left, top] = corner(k);
        if (axis === 1) pen.drawImage(sheet, left, top + Y - 1 - y, X, 1, 0, Z - 1 - k, X, 1);
        else { // a column of the sheet becomes a row, front to the right
          pen.setTransform(0, 1, -1, 0, Y, Z - 1 - k);
          pen.drawImage(sheet, left + x, top, 1, Y, 0, 0, 1, Y);
          pen.setTransform(1, 0, 0, 1, 0, 0);
        }
      }
      outputs[axis].value = first[axis] + step[axis] * sliders[axis].value;
    });
    root.querySelector(".tag").textContent = name;
  };

  const flip = () => {
    if (flicker.checked) { isBefore = !isBefore; draw(); setTimeout(flip, slow ? 2000 : 800); }
  };

  const widest = Math.max(X * mm[0], Y * mm[1]); // of the two planes that stand one below the other
  root.querySelector(".planes").style.gridTemplateColumns = `${X * mm[0]}fr ${widest}fr`; // one scale for all

  Promise.all(Object.values(sheets).map((sheet) => sheet.decode())).then(() => {
    canvases.forEach((canvas, axis) => {
      const [w, h, across, up] = sides[axis];
      canvas.width = w;
      canvas.height = h;
      canvas.style.aspectRatio = `${w * mm[across]} / ${h * mm[up]}`;
      if (axis < 2) figures[axis].style.width = `${100 * w * mm[across] / widest}%`;
      canvas.addEventListener("click", (event) => { // the other two planes go where it was clicked
        const box = canvas.getBoundingClientRect();
        sliders[across].value = Math.floor((event.clientX - box.left) / box.width * w);
        sliders[up].value = h - 1 - Math.floor((event.clientY - box.top) / box.height * h);
        draw();
      });
    });
    for (const input of [...sliders, ...radios]) input.addEventListener("input", draw);
    for (const radio of radios) radio.addEventListener("input", () => { flicker.checked = false; draw(); });
    flicker.addEventListener("change", () => flicker.checked ? flip() : draw());
    root.hidden = false;
    draw();
  });
})();
