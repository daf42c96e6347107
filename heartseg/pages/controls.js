// What the planes and the heart share: cursor, window, what is shown; and the controls of it.

const DIMMED = 0.3, DIMMED_SOLID = [128, 134, 142];

class State {
  constructor(image, labels) {
    const [slices, rows, cols] = scan.shape;
    this.image = image;
    this.labels = labels;
    this.sizes = [cols, rows, slices];
    this.strides = [1, cols, cols * rows];
    this.cursor = [...scan.cursor];
    this.gray = new Uint8ClampedArray(256);
    this.shown = new Set(scan.structures.filter((s) => s.present).map((s) => s.value));
    this.lit = 0;
    this.cross = true;
    this.names = new Map(scan.structures.map((s) => [s.value, `${s.key} ${s.name}`]));
    this.look = {fill: [], border: [], colors: [], solid: [], visible: []};
    this.waiting = {planes: false, heart: false};
  }

  labelOf([col, row, slice]) {
    return this.labels[col + row * this.strides[1] + slice * this.strides[2]];
  }

  // Move the cursor along some axes, and stay inside.
  moveTo(voxel) {
    for (const axis of [0, 1, 2]) {
      if (voxel[axis] === undefined) { continue; }
      this.cursor[axis] = Math.max(0, Math.min(this.sizes[axis] - 1, voxel[axis]));
    }
    const place = this.cursor.map((index, axis) => {
      const mm = scan.origin[axis] + index * scan.step;
      return `${["RL", "AP", "SI"][axis][mm < 0 ? 1 : 0]} ${Math.abs(mm).toFixed(1)}`;
    });
    const name = this.names.get(this.labelOf(this.cursor)) || "no structure";
    document.getElementById("place").textContent = `${place.join(", ")} mm: ${name}`;
    this.redrawPlanes();
    this.redrawHeart({fresh: false});
  }

  // Mark the row of the structure that lies under the pointer in a picture.
  point(value) {
    for (const row of document.querySelectorAll("[data-value]")) {
      row.classList.toggle("lit", value > 0 && Number(row.dataset.value) === value);
    }
  }

  // Bring one structure out in all pictures; 0 none.
  light(value) {
    this.lit = value;
    this.point(value);
    this.refresh();
  }

  // What depends on the controls.
  refresh() {
    const read = (id) => Number(document.getElementById(id).value);
    const level = read("level"), width = read("width"), opacity = read("opacity") / 100;
    for (let i = 0; i < 256; i++) { this.gray[i] = 255 * ((i - level) / width + 0.5); }
    for (const {value, color} of scan.structures) {
      const shown = this.shown.has(value) || this.lit === value;
      const dimmed = this.lit > 0 && this.lit !== value;
      const own = this.lit === value ? Math.min(1, opacity + 0.3) : dimmed ? DIMMED * opacity
        : opacity;
      this.look.fill[value] = shown ? own : 0;
      this.look.border[value] = shown ? Math.min(1, 2 * own) : 0;
      this.look.colors[value] = color;
      this.look.visible[value] = shown;
      this.look.solid[value] = dimmed
        ? color.map((part, i) => DIMMED * part + (1 - DIMMED) * DIMMED_SOLID[i]) : color;
    }
    const [low, high] = scan.range, intensity = (byte) => byte * (high - low) / 255;
    const write = (id, words) => {
      document.getElementById(`${id}-value`).textContent = words;
      document.getElementById(id).setAttribute("aria-valuetext", words);
    };
    write("level", Number((low + intensity(level)).toPrecision(3)).toString());
    write("width", Number(intensity(width).toPrecision(3)).toString());
    write("opacity", `${Math.round(100 * opacity)} %`);
    this.redrawPlanes();
    this.redrawHeart();
  }

  redrawPlanes() {
    if (this.waiting.planes) { return; }
    this.waiting.planes = true;
    requestAnimationFrame(() => {
      this.waiting.planes = false;
      for (const plane of this.planes) { plane.draw(); }
    });
  }

  // Coarsely at once while the heart turns, finely when it rests.
  redrawHeart({coarse = false, fresh = true} = {}) {
    if (fresh) {
      clearTimeout(this.resting);
      this.coarse = coarse;
      this.fresh = true;
      if (coarse) { this.resting = setTimeout(() => this.redrawHeart(), REST_MS); }
    }
    if (this.waiting.heart) { return; }
    this.waiting.heart = true;
    requestAnimationFrame(() => {
      this.waiting.heart = false;
      this.heart.draw(this.coarse, this.fresh);
      this.fresh = false;
    });
  }
}

function listenToControls(state) {
  const boxes = [...document.querySelectorAll(".structures li")].map((row) => ({
    value: Number(row.dataset.value), box: row.querySelector("input"),
  }));
  const choose = () => {
    state.shown = new Set(boxes.filter(({box}) => box.checked).map(({value}) => value));
    state.refresh();
  };
  for (const {box} of boxes) { box.addEventListener("change", choose); }
  for (const [id, on] of [["all", true], ["none", false]]) {
    document.getElementById(id).addEventListener("click", () => {
      for (const {box} of boxes) { box.checked = on && !box.disabled; }
      choose();
    });
  }
  for (const row of document.querySelectorAll("[data-value]")) {
    const value = Number(row.dataset.value);
    row.addEventListener("pointerenter", () => state.light(value));
    row.addEventListener("pointerleave", () => state.light(0));
    row.addEventListener("focusin", () => state.light(value));
    row.addEventListener("focusout", () => state.light(0));
  }
  for (const id of ["level", "width", "opacity"]) {
    document.getElementById(id).addEventListener("input", () => state.refresh());
  }
  document.getElementById("cross").addEventListener("change", (event) => {
    state.cross = event.target.checked;
    state.refresh();
  });
  document.getElementById("reset").addEventListener("click", () => {
    resetDisplay();
    state.heart.reset();
    state.refresh();
    state.moveTo(scan.cursor);
  });
}

function resetDisplay() {
  const [low, high] = scan.window;
  document.getElementById("level").value = (low + high) / 2;
  document.getElementById("width").value = high - low;
  document.getElementById("opacity").value = 35;
}

// Windows move between screens of different resolution, and pages are enlarged.
function watchResolution(state) {
  const query = matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`);
  query.addEventListener("change", () => {
    state.refresh();
    watchResolution(state);
  }, {once: true});
}

async function start() {
  const image = await unpack(scan.image), labels = await unpack(scan.labels);
  const cols = scan.shape[2];
  // Rows are differences of neighbours.
  for (let i = 0; i < image.length; i++) { if (i % cols) { image[i] += image[i - 1]; } }
  const surfaces = await Promise.all(scan.surfaces.map(async (surface) => ({
    ...surface,
    vertices: new Uint16Array((await unpack(surface.vertices)).slice().buffer),
    triangles: new Uint32Array((await unpack(surface.triangles)).slice().buffer),
  })));
  document.documentElement.classList.add("live");
  const state = new State(image, labels);
  state.planes = Object.keys(PLANES).map((name) => new PlaneView(name, state));
  state.heart = new HeartView(state, surfaces);
  listenToControls(state);
  watchResolution(state);
  resetDisplay();
  state.refresh();
  state.moveTo(scan.cursor);
  document.documentElement.dataset.ready = "yes";
}

start();
