// The heart in three dimensions, drawn by the processor: no browser and no printer lacks it.

const SIDES = {
  // Rows: what runs right, up and toward the viewer on the screen, in right, anterior, superior.
  anterior: [-1, 0, 0, 0, 0, 1, 0, 1, 0],
  posterior: [1, 0, 0, 0, 0, 1, 0, -1, 0],
  left: [0, -1, 0, 0, 0, 1, -1, 0, 0],
  right: [0, 1, 0, 0, 0, 1, 1, 0, 0],
  superior: [1, 0, 0, 0, 1, 0, 0, 0, 1],
  inferior: [-1, 0, 0, 0, 1, 0, 0, 0, -1],
};
const LIGHT = [-0.36, 0.45, 0.82], HALF = [-0.19, 0.24, 0.95];
const AMBIENT = 0.34, SHINE = 55, TURN = 0.01, KEY_TURN = Math.PI / 18;
const LARGEST_SIDE = 1100, REST_MS = 160, CLICK_PX = 4;

class HeartView {
  constructor(state, surfaces) {
    this.state = state;
    this.canvas = document.querySelector("#heart canvas");
    this.surfaces = surfaces.map(prepareSurface);
    [this.middle, this.radius] = ballAround(this.surfaces.map(({points}) => points));
    this.sheet = document.createElement("canvas");
    this.reset();
    this.listen();
  }

  reset() {
    this.turnOf = [...SIDES.anterior];
    this.zoom = 1;
    this.turn(0.35, 0.2);
  }

  listen() {
    const {canvas} = this;
    let moved = 0, last = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) { return; }
      canvas.setPointerCapture(event.pointerId);
      canvas.classList.add("turning");
      moved = 0;
      last = [event.clientX, event.clientY];
    });
    canvas.addEventListener("pointermove", (event) => {
      if (last === null) {
        const hit = this.hitAt(event);
        this.state.point(hit ? hit.value : 0);
        return;
      }
      const across = event.clientX - last[0], down = event.clientY - last[1];
      moved += Math.abs(across) + Math.abs(down);
      last = [event.clientX, event.clientY];
      this.turn(TURN * across, TURN * down);
      this.state.redrawHeart({coarse: true});
    });
    const end = (event) => {
      if (last === null) { return; }
      last = null;
      canvas.classList.remove("turning");
      const hit = event.type === "pointerup" && moved < CLICK_PX ? this.hitAt(event) : null;
      if (hit) { this.state.moveTo(hit.voxel); }
      this.state.redrawHeart();
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("pointerleave", () => this.state.point(0));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.grow(Math.exp(-0.0015 * event.deltaY));
    }, {passive: false});
    canvas.addEventListener("keydown", (event) => {
      const act = {
        ArrowLeft: () => this.turn(-KEY_TURN, 0),
        ArrowRight: () => this.turn(KEY_TURN, 0),
        ArrowUp: () => this.turn(0, -KEY_TURN),
        ArrowDown: () => this.turn(0, KEY_TURN),
        "+": () => this.grow(1.1),
        "-": () => this.grow(1 / 1.1),
      }[event.key];
      if (!act || event.ctrlKey || event.metaKey || event.altKey) { return; }
      event.preventDefault();
      act();
      this.state.redrawHeart();
    });
    for (const button of document.querySelectorAll("[data-side]")) {
      button.addEventListener("click", () => {
        this.turnOf = [...SIDES[button.dataset.side]];
        this.state.redrawHeart();
      });
    }
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  grow(factor) {
    this.zoom = Math.min(6, Math.max(0.5, this.zoom * factor));
    this.state.redrawHeart();
  }

  // Turn about the vertical and then the horizontal of the screen.
  turn(across, down) {
    const rotate = (first, second, angle) => {
      const cos = Math.cos(angle), sin = Math.sin(angle), m = this.turnOf;
      for (let i = 0; i < 3; i++) {
        const a = m[3 * first + i], b = m[3 * second + i];
        m[3 * first + i] = cos * a + sin * b;
        m[3 * second + i] = cos * b - sin * a;
      }
    };
    rotate(0, 2, across);
    rotate(2, 1, down);
  }

  // Return where a point of the patient lies on a sheet: right, down, toward the viewer.
  project(point, width, height) {
    const m = this.turnOf, scale = this.scaleOf(width, height);
    const [x, y, z] = point.map((value, axis) => value - this.middle[axis]);
    return [
      width / 2 + scale * (m[0] * x + m[1] * y + m[2] * z),
      height / 2 - scale * (m[3] * x + m[4] * y + m[5] * z),
      scale * (m[6] * x + m[7] * y + m[8] * z),
    ];
  }

  scaleOf(width, height) {
    return this.zoom * Math.min(width, height) / 2.1 / this.radius;
  }

  // Draw; coarsely while the heart is being turned, and not anew if only the cursor moved.
  draw(coarse = false, fresh = true) {
    const {canvas} = this, ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio);
    const height = Math.round(canvas.clientHeight * ratio);
    if (!width || !height) { return; }
    if (canvas.width !== width) { canvas.width = width; }
    if (canvas.height !== height) { canvas.height = height; }
    if (fresh || !this.depth) {
      const finer = (coarse ? 1 : 2) / ratio;
      const share = Math.min(finer, LARGEST_SIDE / Math.max(width, height));
      this.render(Math.round(width * share), Math.round(height * share));
    }
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    pen.imageSmoothingQuality = "high";
    pen.drawImage(this.sheet, 0, 0, width, height);
    this.drawCursor(pen, width, height, ratio);
    this.drawAxes(pen, height, ratio);
  }

  render(width, height) {
    if (this.sheet.width !== width || this.sheet.height !== height || !this.depth) {
      this.sheet.width = width;
      this.sheet.height = height;
      this.pixels = new ImageData(width, height);
      this.depth = new Float32Array(width * height);
      this.values = new Uint8Array(width * height);
    }
    const colors = new Uint32Array(this.pixels.data.buffer);
    colors.fill(0);
    this.depth.fill(-Infinity);
    this.values.fill(0);
    const {look} = this.state;
    for (const surface of this.surfaces) {
      if (look.visible[surface.value]) {
        this.fill(surface, look.solid[surface.value], colors, width, height);
      }
    }
    this.sheet.getContext("2d").putImageData(this.pixels, 0, 0);
  }

  fill(surface, color, colors, width, height) {
    const {points, normals, triangles, value} = surface, {depth, values} = this;
    const m = this.turnOf, scale = this.scaleOf(width, height), count = points.length / 3;
    const xs = new Float32Array(count), ys = new Float32Array(count), zs = new Float32Array(count);
    const lights = new Float32Array(count), shines = new Float32Array(count);
    for (let i = 0, j = 0; i < count; i++, j += 3) {
      const x = points[j] - this.middle[0], y = points[j + 1] - this.middle[1];
      const z = points[j + 2] - this.middle[2];
      xs[i] = width / 2 + scale * (m[0] * x + m[1] * y + m[2] * z);
      ys[i] = height / 2 - scale * (m[3] * x + m[4] * y + m[5] * z);
      zs[i] = scale * (m[6] * x + m[7] * y + m[8] * z);
      const a = normals[j], b = normals[j + 1], c = normals[j + 2];
      const right = m[0] * a + m[1] * b + m[2] * c, up = m[3] * a + m[4] * b + m[5] * c;
      const near = m[6] * a + m[7] * b + m[8] * c;
      const lit = right * LIGHT[0] + up * LIGHT[1] + near * LIGHT[2];
      const mirrored = right * HALF[0] + up * HALF[1] + near * HALF[2];
      lights[i] = AMBIENT + (1 - AMBIENT) * Math.max(0, lit);
      shines[i] = SHINE * Math.max(0, mirrored) ** 24;
    }
    for (let t = 0; t < triangles.length; t += 3) {
      const i = triangles[t], j = triangles[t + 1], k = triangles[t + 2];
      const x0 = xs[i], y0 = ys[i], x1 = xs[j], y1 = ys[j], x2 = xs[k], y2 = ys[k];
      // Both sides are drawn: smoothing turns single triangles around, which must leave no hole.
      const area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0);
      if (area === 0) { continue; }
      const left = Math.max(0, Math.ceil(Math.min(x0, x1, x2) - 0.5));
      const right = Math.min(width - 1, Math.floor(Math.max(x0, x1, x2) - 0.5));
      const top = Math.max(0, Math.ceil(Math.min(y0, y1, y2) - 0.5));
      const bottom = Math.min(height - 1, Math.floor(Math.max(y0, y1, y2) - 0.5));
      for (let row = top; row <= bottom; row++) {
        const py = row + 0.5;
        for (let col = left; col <= right; col++) {
          const px = col + 0.5;
          const w0 = ((x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)) / area;
          const w1 = ((x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)) / area;
          const w2 = 1 - w0 - w1;
          if (w0 < 0 || w1 < 0 || w2 < 0) { continue; }
          const z = w0 * zs[i] + w1 * zs[j] + w2 * zs[k], at = row * width + col;
          if (z <= depth[at]) { continue; }
          depth[at] = z;
          values[at] = value;
          const light = w0 * lights[i] + w1 * lights[j] + w2 * lights[k];
          const shine = w0 * shines[i] + w1 * shines[j] + w2 * shines[k];
          const red = Math.min(255, color[0] * light + shine);
          const green = Math.min(255, color[1] * light + shine);
          const blue = Math.min(255, color[2] * light + shine);
          colors[at] = 0xff000000 | blue << 16 | green << 8 | red;
        }
      }
    }
  }

  // Return the structure under the pointer and its voxel; null beside the heart.
  hitAt(event) {
    const box = this.canvas.getBoundingClientRect(), {width, height} = this.sheet;
    const x = (event.clientX - box.left) / box.width * width;
    const y = (event.clientY - box.top) / box.height * height;
    const at = Math.floor(y) * width + Math.floor(x);
    if (!this.values || !this.values[at]) { return null; }
    const m = this.turnOf, scale = this.scaleOf(width, height);
    const right = (x - width / 2) / scale, up = (height / 2 - y) / scale;
    const near = this.depth[at] / scale;
    const voxel = [0, 1, 2].map((axis) => Math.round((this.middle[axis] - scan.origin[axis]
      + m[axis] * right + m[3 + axis] * up + m[6 + axis] * near) / scan.step));
    return {value: this.values[at], voxel};
  }

  drawCursor(pen, width, height, ratio) {
    if (!this.state.cross) { return; }
    const point = this.state.cursor.map((index, axis) => scan.origin[axis] + index * scan.step);
    const [x, y] = this.project(point, width, height);
    for (const [color, size] of [["#000", 4], ["#fff", 2]]) {
      pen.strokeStyle = color;
      pen.lineWidth = size * ratio;
      pen.beginPath();
      pen.arc(x, y, 5 * ratio, 0, 2 * Math.PI);
      pen.stroke();
    }
  }

  drawAxes(pen, height, ratio) {
    const m = this.turnOf, reach = 26 * ratio, x0 = 42 * ratio, y0 = height - 42 * ratio;
    const ends = ["RL", "AP", "SI"].flatMap((letters, axis) => [0, 1].map((end) => {
      const sign = end ? -1 : 1;
      return [letters[end], sign * m[axis], sign * m[3 + axis], sign * m[6 + axis]];
    }));
    // The nearest last, over the others.
    ends.sort((a, b) => a[3] - b[3]);
    pen.font = `600 ${12 * ratio}px system-ui, sans-serif`;
    for (const [letter, right, up, near] of ends) {
      pen.globalAlpha = near < -0.2 ? 0.45 : 1;
      text(pen, letter, x0 + reach * right, y0 - reach * up, "center", "middle");
    }
    pen.globalAlpha = 1;
  }
}

// Return the middle and the radius of a ball around points.
function ballAround(parts) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (const points of parts) {
    for (let i = 0; i < points.length; i++) {
      low[i % 3] = Math.min(low[i % 3], points[i]);
      high[i % 3] = Math.max(high[i % 3], points[i]);
    }
  }
  if (low[0] > high[0]) { return [[0, 0, 0], 1]; }
  const middle = low.map((value, axis) => (value + high[axis]) / 2);
  let radius = 1;
  for (const points of parts) {
    for (let i = 0; i < points.length; i += 3) {
      radius = Math.max(radius, Math.hypot(points[i] - middle[0], points[i + 1] - middle[1],
        points[i + 2] - middle[2]));
    }
  }
  return [middle, radius];
}

// Points in mm, and at each the direction in which the surface looks.
function prepareSurface({value, low, step, vertices, triangles}) {
  const points = new Float32Array(vertices.length), normals = new Float32Array(vertices.length);
  for (let i = 0; i < vertices.length; i++) { points[i] = low[i % 3] + vertices[i] * step; }
  for (let t = 0; t < triangles.length; t += 3) {
    const i = 3 * triangles[t], j = 3 * triangles[t + 1], k = 3 * triangles[t + 2];
    for (let axis = 0; axis < 3; axis++) {
      const u = (axis + 1) % 3, v = (axis + 2) % 3;
      const part = (points[j + u] - points[i + u]) * (points[k + v] - points[i + v])
        - (points[j + v] - points[i + v]) * (points[k + u] - points[i + u]);
      normals[i + axis] += part;
      normals[j + axis] += part;
      normals[k + axis] += part;
    }
  }
  toUnits(normals);
  return {value, points, normals: soften(normals, triangles), triangles};
}

// Directions averaged with their neighbours': single voxels leave folds, which would show as dots.
function soften(normals, triangles) {
  const softened = new Float32Array(normals.length);
  for (let t = 0; t < triangles.length; t += 3) {
    const i = 3 * triangles[t], j = 3 * triangles[t + 1], k = 3 * triangles[t + 2];
    for (let axis = 0; axis < 3; axis++) {
      const sum = normals[i + axis] + normals[j + axis] + normals[k + axis];
      softened[i + axis] += sum;
      softened[j + axis] += sum;
      softened[k + axis] += sum;
    }
  }
  toUnits(softened);
  return softened;
}

function toUnits(normals) {
  for (let i = 0; i < normals.length; i += 3) {
    const long = Math.hypot(normals[i], normals[i + 1], normals[i + 2]) || 1;
    for (let axis = 0; axis < 3; axis++) { normals[i + axis] /= long; }
  }
}
