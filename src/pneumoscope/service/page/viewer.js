// A radiograph on a canvas: window centre and width of the gray values, zoom, pan, and a heatmap over it.

const LOW = 25, HIGH = 225; // the turbo map without its dark ends, as in the overlays of the command line

/** Colour of the turbo map, 0 to 1 -> [r, g, b] 0 to 255; polynomial by Mikhailov, 2019. */
export function colour(share) {
  const x = (LOW + share * (HIGH - LOW)) / 255;
  const sum = (...c) => Math.max(0, Math.min(255, Math.round(255 * c.reduceRight((s, k) => s * x + k, 0))));
  return [
    sum(0.13572138, 4.6153926, -42.66032258, 132.13108234, -152.94239396, 59.28637943),
    sum(0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604),
    sum(0.1066733, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973),
  ];
}

/** The state that all viewers of one radiograph share. */
export function newView() {
  return { zoom: 1, x: 0, y: 0, centre: 127.5, width: 255, invert: false, heatmap: true, opacity: 0.6 };
}

/** Gray values of a decoded picture. */
export function grayOf(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const gray = new Uint8Array(bitmap.width * bitmap.height);
  for (let i = 0; i < gray.length; i++) {
    gray[i] = Math.round(0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]);
  }
  return { gray, width: bitmap.width, height: bitmap.height };
}

/** The radiograph with the window of a view, at full size. */
export function windowed(image, view, canvas = new OffscreenCanvas(image.width, image.height)) {
  const table = new Uint32Array(256);
  for (let level = 0; level < 256; level++) {
    let shown = Math.round(255 * Math.max(0, Math.min(1, (level - view.centre) / view.width + 0.5)));
    if (view.invert) shown = 255 - shown;
    table[level] = (255 << 24) | (shown << 16) | (shown << 8) | shown;
  }
  const pixels = new ImageData(image.width, image.height);
  const words = new Uint32Array(pixels.data.buffer);
  for (let i = 0; i < words.length; i++) words[i] = table[image.gray[i]];
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

/** A small map as a picture; colour and opacity follow the values. */
export function heatPicture(values) {
  const rows = values.length, columns = values[0].length;
  const peak = Math.max(...values.flat());
  const small = new OffscreenCanvas(columns, rows);
  const pixels = new ImageData(columns, rows);
  values.flat().forEach((value, i) => {
    const share = peak > 0 ? value / peak : 0;
    pixels.data.set([...colour(share), Math.round(255 * share)], 4 * i);
  });
  small.getContext("2d").putImageData(pixels, 0, 0);
  return small;
}

/** Where a small map of values from 0 to 1 crosses one half: lines in units of its width and height (marching squares). */
export function outlineOf(map) {
  const rows = map.length, columns = map[0].length, path = new Path2D();
  const at = (y, x) => (y < 0 || x < 0 || y >= rows || x >= columns ? 0 : map[y][x]); // outside the radiograph are no lungs
  for (let y = -1; y < rows; y++) {
    for (let x = -1; x < columns; x++) {
      const corners = [[y, x], [y, x + 1], [y + 1, x + 1], [y + 1, x]];
      const crossings = [];
      corners.forEach(([y0, x0], i) => {
        const [y1, x1] = corners[(i + 1) % 4], a = at(y0, x0), b = at(y1, x1);
        if (a > 0.5 === b > 0.5) return;
        const share = (0.5 - a) / (b - a);
        crossings.push([(x0 + share * (x1 - x0) + 0.5) / columns, (y0 + share * (y1 - y0) + 0.5) / rows]);
      });
      for (let i = 0; i + 1 < crossings.length; i += 2) {
        path.moveTo(...crossings[i]);
        path.lineTo(...crossings[i + 1]);
      }
    }
  }
  return path;
}

/** Draw such lines over a rectangle, two pixels wide. */
export function drawOutline(context, outline, x, y, width, height) {
  const scaled = new Path2D();
  scaled.addPath(outline, new DOMMatrix([width, 0, 0, height, x, y]));
  context.save();
  context.lineWidth = Math.max(1.5, Math.max(width, height) / 500);
  context.strokeStyle = "#78ffff";
  context.stroke(scaled);
  context.restore();
}

/** Draw a heatmap over a whole rectangle, with pixel centres as in resizing. */
export function drawHeat(context, heat, x, y, width, height, opacity) {
  // Bilinear enlargement fades the outermost half cell to nothing, so the edge is first copied to a border.
  const padded = new OffscreenCanvas(heat.width + 2, heat.height + 2), pad = padded.getContext("2d");
  pad.imageSmoothingEnabled = false;
  pad.drawImage(heat, 0, 0, heat.width + 2, heat.height + 2);
  pad.clearRect(1, 1, heat.width, heat.height);
  pad.drawImage(heat, 1, 1);
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.globalAlpha = opacity;
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  const across = width / heat.width, down = height / heat.height;
  context.drawImage(padded, x - across, y - down, width + 2 * across, height + 2 * down);
  context.restore();
}

export class Viewer {
  /** canvas: to draw on; view: the shared state; changed: called after this viewer has changed the view. */
  constructor(canvas, view, changed) {
    Object.assign(this, { canvas, view, changed, image: null, heat: null, outline: null, pointers: new Map(), wanted: false });
    this.resizing = new ResizeObserver(() => this.draw());
    this.resizing.observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("dblclick", () => this.reset());
  }

  /** heatmap: as the service sends it, with values and perhaps lungs; or nothing. */
  show(image, heatmap) {
    if (image !== this.image) this.levels = null;
    if (!image) this.shown = undefined;
    this.image = image;
    this.heat = image && heatmap ? heatPicture(heatmap.values) : null;
    this.outline = image && heatmap?.lungs ? outlineOf(heatmap.lungs) : null;
    this.draw();
  }

  close() { this.resizing.disconnect(); }

  /** Draw with the next frame; several calls before it draw once. */
  draw() {
    if (this.wanted) return;
    this.wanted = true;
    requestAnimationFrame(() => { this.wanted = false; this.paint(); });
  }

  paint() {
    const { canvas, image, view } = this;
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    if (!image || !width || !height) return;
    const levels = `${view.centre} ${view.width} ${view.invert}`;
    if (this.levels !== levels) {
      this.shown = windowed(image, view, this.shown?.width === image.width && this.shown?.height === image.height ? this.shown : undefined);
      this.levels = levels;
    }
    const fit = Math.min(width / image.width, height / image.height) * view.zoom;
    const w = image.width * fit, h = image.height * fit;
    const x = (width - w) / 2 + view.x * w, y = (height - h) / 2 + view.y * h;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.shown, x, y, w, h);
    if (this.heat && view.heatmap) drawHeat(context, this.heat, x, y, w, h, view.opacity);
    if (this.outline && view.heatmap) drawOutline(context, this.outline, x, y, w, h);
    canvas.dataset.painted = String(Number(canvas.dataset.painted || 0) + 1);
  }

  apply(change) {
    Object.assign(this.view, change);
    this.view.zoom = Math.max(0.5, Math.min(20, this.view.zoom));
    this.view.width = Math.max(1, Math.min(510, this.view.width));
    this.view.centre = Math.max(0, Math.min(255, this.view.centre));
    const far = 0.5 + 0.5 / this.view.zoom; // a part of it stays visible
    this.view.x = Math.max(-far, Math.min(far, this.view.x));
    this.view.y = Math.max(-far, Math.min(far, this.view.y));
    this.changed();
  }

  reset() { this.apply(newView()); }

  down(event) {
    if (event.button === 2) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (event.buttons === 0) this.pointers.delete(event.pointerId);
    if (!before || !this.image || event.buttons === 0) return;
    const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
    const others = [...this.pointers.values()].filter((pointer) => pointer.pointerId !== event.pointerId);
    this.pointers.set(event.pointerId, event);
    const { view, canvas, image } = this;
    const fit = Math.min(canvas.clientWidth / image.width, canvas.clientHeight / image.height) * view.zoom;
    const pan = (share) => ({ x: view.x + share * dx / (image.width * fit), y: view.y + share * dy / (image.height * fit) });
    if (others.length === 1) {
      const [other] = others;
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
      this.apply({ zoom: view.zoom * apart(event) / apart(before), ...pan(0.5) });
    } else if (event.shiftKey || event.buttons === 4) {
      this.apply(pan(1));
    } else {
      this.apply({ width: view.width + dx, centre: view.centre - dy * 0.5 });
    }
  }

  wheel(event) {
    event.preventDefault();
    this.apply({ zoom: this.view.zoom * Math.exp(-event.deltaY / 400) });
  }

  key(event) {
    const step = 0.05 / this.view.zoom;
    const change = {
      "+": { zoom: this.view.zoom * 1.25 }, "=": { zoom: this.view.zoom * 1.25 }, "-": { zoom: this.view.zoom / 1.25 },
      ArrowLeft: { x: this.view.x + step }, ArrowRight: { x: this.view.x - step },
      ArrowUp: { y: this.view.y + step }, ArrowDown: { y: this.view.y - step },
      i: { invert: !this.view.invert }, h: { heatmap: !this.view.heatmap }, 0: newView(),
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!change || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.apply(change);
  }
}
