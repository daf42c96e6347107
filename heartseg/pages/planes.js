// Three linked planes: canvases that show the voxels at the cursor and move it.

// Axes of the voxels: 0 right, 1 anterior, 2 superior. The patient's right is on the left,
// superior or anterior is up, and anterior is right in sagittal slices.
const PLANES = {
  axial: {stack: 2, rows: 1, cols: 0, flipRows: true, flipCols: true, marks: "APRL"},
  coronal: {stack: 1, rows: 2, cols: 0, flipRows: true, flipCols: true, marks: "SIRL"},
  sagittal: {stack: 0, rows: 2, cols: 1, flipRows: true, flipCols: false, marks: "SIPA"},
};
const WHEEL_STEP = 40;

class PlaneView {
  constructor(name, state) {
    Object.assign(this, PLANES[name]);
    this.name = name;
    this.state = state;
    this.figure = document.getElementById(name);
    this.canvas = this.figure.querySelector("canvas");
    this.slider = this.figure.querySelector("input");
    this.slider.max = state.sizes[this.stack] - 1;
    this.width = state.sizes[this.cols];
    this.height = state.sizes[this.rows];
    this.pixels = new ImageData(this.width, this.height);
    this.sheet = document.createElement("canvas");
    this.sheet.width = this.width;
    this.sheet.height = this.height;
    this.turned = 0;
    this.listen();
  }

  listen() {
    const {canvas, slider, state} = this;
    const follow = (event) => {
      const [col, row] = this.voxelAt(event);
      state.moveTo({[this.cols]: col, [this.rows]: row});
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) { return; }
      canvas.setPointerCapture(event.pointerId);
      follow(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) { follow(event); }
      const [col, row] = this.voxelAt(event);
      state.point(this.labelAt(col, row));
    });
    canvas.addEventListener("pointerleave", () => state.point(0));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.turned += event.deltaMode === 0 ? event.deltaY : event.deltaY * WHEEL_STEP;
      const steps = Math.trunc(this.turned / WHEEL_STEP);
      this.turned -= steps * WHEEL_STEP;
      this.step(this.stack, -steps);
    }, {passive: false});
    canvas.addEventListener("keydown", (event) => {
      const act = {
        ArrowLeft: () => this.step(this.cols, this.flipCols ? 1 : -1),
        ArrowRight: () => this.step(this.cols, this.flipCols ? -1 : 1),
        ArrowUp: () => this.step(this.rows, 1),
        ArrowDown: () => this.step(this.rows, -1),
        PageUp: () => this.step(this.stack, 1),
        PageDown: () => this.step(this.stack, -1),
        Home: () => state.moveTo(scan.cursor),
      }[event.key];
      if (!act || event.ctrlKey || event.metaKey || event.altKey) { return; }
      event.preventDefault();
      act();
    });
    slider.addEventListener("input", () => state.moveTo({[this.stack]: Number(slider.value)}));
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  step(axis, by) {
    this.state.moveTo({[axis]: this.state.cursor[axis] + by});
  }

  // Where the slice lies in the canvas, in its own pixels.
  place() {
    const {canvas} = this;
    const scale = Math.min(canvas.width / this.width, canvas.height / this.height);
    return {
      scale,
      left: (canvas.width - scale * this.width) / 2,
      top: (canvas.height - scale * this.height) / 2,
    };
  }

  voxelAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const {scale, left, top} = this.place();
    const ratio = this.canvas.width / box.width;
    const col = Math.floor(((event.clientX - box.left) * ratio - left) / scale);
    const row = Math.floor(((event.clientY - box.top) * ratio - top) / scale);
    return [
      this.flipCols ? this.width - 1 - col : col,
      this.flipRows ? this.height - 1 - row : row,
    ];
  }

  labelAt(col, row) {
    if (col < 0 || row < 0 || col >= this.width || row >= this.height) { return 0; }
    const index = [...this.state.cursor];
    index[this.cols] = col;
    index[this.rows] = row;
    return this.state.labelOf(index);
  }

  paint() {
    const {state, width, height, pixels} = this;
    const {image, labels, gray, look, strides} = state;
    const data = pixels.data, colStep = strides[this.cols], rowStep = strides[this.rows];
    const start = state.cursor[this.stack] * strides[this.stack];
    for (let y = 0, at = 0; y < height; y++) {
      const row = this.flipRows ? height - 1 - y : y;
      for (let x = 0; x < width; x++, at += 4) {
        const col = this.flipCols ? width - 1 - x : x;
        const index = start + row * rowStep + col * colStep;
        const level = gray[image[index]], value = labels[index];
        let red = level, green = level, blue = level;
        if (value && look.fill[value]) {
          const border = (col > 0 && labels[index - colStep] !== value)
            || (col < width - 1 && labels[index + colStep] !== value)
            || (row > 0 && labels[index - rowStep] !== value)
            || (row < height - 1 && labels[index + rowStep] !== value);
          const share = border ? look.border[value] : look.fill[value], color = look.colors[value];
          red += share * (color[0] - red);
          green += share * (color[1] - green);
          blue += share * (color[2] - blue);
        }
        data[at] = red;
        data[at + 1] = green;
        data[at + 2] = blue;
        data[at + 3] = 255;
      }
    }
    this.sheet.getContext("2d").putImageData(pixels, 0, 0);
  }

  draw() {
    const {canvas, state} = this, ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio);
    const height = Math.round(canvas.clientHeight * ratio);
    if (!width || !height) { return; }
    if (canvas.width !== width) { canvas.width = width; }
    if (canvas.height !== height) { canvas.height = height; }
    this.paint();
    const pen = canvas.getContext("2d"), {scale, left, top} = this.place();
    pen.clearRect(0, 0, width, height);
    pen.imageSmoothingEnabled = true;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(this.sheet, left, top, scale * this.width, scale * this.height);
    if (state.cross) { this.drawCross(pen, scale, left, top, ratio); }
    this.write(pen, scale, ratio);
    const count = state.sizes[this.stack], number = state.cursor[this.stack] + 1;
    this.slider.value = number - 1;
    this.slider.setAttribute("aria-valuetext", `${number} of ${count}`);
    canvas.setAttribute("aria-label", `${this.name} plane, slice ${number} of ${count}`);
  }

  drawCross(pen, scale, left, top, ratio) {
    const {cursor} = this.state;
    const col = this.flipCols ? this.width - 1 - cursor[this.cols] : cursor[this.cols];
    const row = this.flipRows ? this.height - 1 - cursor[this.rows] : cursor[this.rows];
    const x = left + (col + 0.5) * scale, y = top + (row + 0.5) * scale, gap = 9 * ratio;
    pen.beginPath();
    pen.moveTo(x, 0); pen.lineTo(x, y - gap);
    pen.moveTo(x, y + gap); pen.lineTo(x, pen.canvas.height);
    pen.moveTo(0, y); pen.lineTo(x - gap, y);
    pen.moveTo(x + gap, y); pen.lineTo(pen.canvas.width, y);
    // White over black shows on any grey.
    for (const [color, size] of [["rgba(0, 0, 0, 0.35)", 2.5], ["rgba(255, 255, 255, 0.8)", 1]]) {
      pen.strokeStyle = color;
      pen.lineWidth = size * ratio;
      pen.stroke();
    }
  }

  write(pen, scale, ratio) {
    const {width, height} = pen.canvas, pad = 6 * ratio;
    const [above, below, left, right] = this.marks;
    pen.font = `600 ${13 * ratio}px system-ui, sans-serif`;
    const number = this.state.cursor[this.stack] + 1, count = this.state.sizes[this.stack];
    text(pen, above, width / 2, pad, "center", "top");
    text(pen, below, width / 2, height - pad, "center", "bottom");
    text(pen, left, pad, height / 2, "left", "middle");
    text(pen, right, width - pad, height / 2, "right", "middle");
    text(pen, `${this.name} ${number}/${count}`, pad, pad, "left", "top");
    const length = barLength(width / scale * scan.step), long = length / scan.step * scale;
    const end = width - pad, base = height - pad;
    pen.fillStyle = "#000";
    pen.fillRect(end - long - ratio, base - 4 * ratio, long + 2 * ratio, 4 * ratio);
    pen.fillStyle = "#fff";
    pen.fillRect(end - long, base - 3 * ratio, long, 2 * ratio);
    text(pen, `${length} mm`, end - long / 2, base - 6 * ratio, "center", "bottom");
  }
}

function text(pen, words, x, y, align, baseline) {
  pen.textAlign = align;
  pen.textBaseline = baseline;
  pen.lineWidth = 3 * (window.devicePixelRatio || 1);
  pen.lineJoin = "round";
  pen.strokeStyle = "#000";
  pen.fillStyle = "#fff";
  pen.strokeText(words, x, y);
  pen.fillText(words, x, y);
}

// The longest round length that fits a third of a picture.
function barLength(width) {
  const power = 10 ** Math.floor(Math.log10(width / 3));
  return Math.max(...[1, 2, 5].map((scale) => scale * power).filter((l) => l <= width / 3));
}
