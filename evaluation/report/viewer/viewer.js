// Puts the page together: NiiVue draws CT, PET and fills in three linked planes; this script adds
// outlines, the projection, the read-out and the controls. NiiVue's crosshair is the only place
// where the position is kept.

const VIEWS = ["all", "axial", "coronal", "sagittal", "projection"];
const AXIS_SLIDERS = ["slice-x", "slice-y", "slice-z"];
const GAP = 0.002; // between the tiles, as a fraction of the stage

async function start() {
  const status = $("status");
  if (!document.createElement("canvas").getContext("webgl2")) {
    status.textContent = "This browser does not offer WebGL 2, which the viewer needs. Allow hardware acceleration, or use another browser.";
    return;
  }
  const volumes = {};
  for (const name of ["ct", "pet", ...MASKS]) {
    const buffer = await readFile(name);
    if (buffer) volumes[name] = new Volume(buffer);
  }
  const viewer = new Viewer(volumes, await openNiivue(volumes));
  viewer.connect();
  viewer.goTo(CASE.start_xyz);
  status.hidden = true;
  window.viewer = viewer; // for tests, and for the curious
}

class Viewer {
  constructor(volumes, nv) {
    this.volumes = volumes;
    this.nv = nv;
    this.images = Object.fromEntries(Object.keys(volumes).map((name, i) => [name, nv.volumes[i]]));
    this.masks = Object.fromEntries(MASKS.filter((n) => volumes[n]).map((n) => [n, volumes[n]]));
    this.projection = new Projection(volumes.pet, this.masks);
    this.paths = new Map(); // outlines that have been traced, by mask, plane and slice
    this.hidden = {}; // what the keys O and I have hidden, with its value before
    this.place = -1;
    this.updateImages = oncePerFrame(() => this.applyImages());
    this.updateProjection = oncePerFrame(() => this.drawProjection());
    const drawScene = nv.drawScene;
    nv.drawScene = (...options) => { // NiiVue draws after every change, also of its size
      const result = drawScene.apply(nv, options);
      this.afterDrawing();
      return result;
    };
  }

  get voxel() {
    return voxelOfFraction(this.nv.scene.crosshairPos);
  }

  goTo(voxel) {
    this.nv.scene.crosshairPos = fractionOfVoxel(clampVoxel(voxel));
    this.nv.drawScene();
  }

  move(axis, steps) {
    const voxel = this.voxel;
    voxel[axis] += steps;
    this.goTo(voxel);
  }

  /** Goes to a place of the list, and says so. */
  goToPlace(index) {
    this.place = index;
    const place = CASE.places[index];
    for (const button of document.querySelectorAll(".place")) {
      const current = Number(button.dataset.place) === index;
      button.setAttribute("aria-current", current);
      if (current) button.scrollIntoView({ block: "nearest" });
    }
    this.goTo(place.voxel_xyz);
    $("spoken").textContent = place.text;
  }

  /** Goes to the next place in a direction, from the last to the first. */
  step(direction, group = null) {
    const { places } = CASE;
    for (let n = 1; n <= places.length; n++) {
      const from = this.place < 0 && direction < 0 ? 0 : this.place;
      const index = (from + direction * n + places.length * 2) % places.length;
      const place = places[index];
      if (place.voxel_xyz && (!group || place.group === group)) return this.goToPlace(index);
    }
  }

  describe(voxel) {
    const label = (name) => (this.masks[name] ? LABEL_NAMES[this.masks[name].at(voxel)] : "");
    return {
      hu: this.volumes.ct.at(voxel).toFixed(0),
      suv: this.volumes.pet.at(voxel).toFixed(2),
      prediction: label("prediction"),
      truth: label("truth"),
      mm: worldOfVoxel(voxel).map((mm) => mm.toFixed(1)).join(", "),
    };
  }

  /** Applies windows, opacities and fills to NiiVue's volumes. */
  applyImages() {
    const { ct, pet } = this.images;
    const [centre, width] = [numberOf("ct-centre"), numberOf("ct-width")];
    [ct.cal_min, ct.cal_max] = [centre - width / 2, centre + width / 2];
    [pet.cal_min, pet.cal_max] = this.petWindow();
    pet.opacity = numberOf("pet-opacity") / 100;
    for (const name of Object.keys(this.masks)) {
      const filled = ["fill", "both"].includes($(name).value);
      this.images[name].opacity = filled ? numberOf("fill") / 100 : 0;
    }
    this.nv.opts.isNearestInterpolation = !$("smooth").checked;
    this.nv.opts.crosshairWidth = $("crosshair").checked ? 1 : 0;
    this.nv.updateGLVolume();
    this.updateProjection();
  }

  petWindow() {
    const low = numberOf("pet-low");
    return [low, Math.max(low + 0.1, numberOf("pet-high"))];
  }

  applyView() {
    const view = $("view").value;
    $("stage").dataset.view = view;
    const half = 0.5 - GAP;
    const corners = [[0, 0], [0.5 + GAP, 0], [0, 0.5 + GAP]];
    const tiles = PLANES.map(({ name }, index) => ({
      name, sliceType: index, position: [...corners[index], half, half],
    }));
    const single = tiles.filter(({ name }) => name === view);
    single.forEach((tile) => (tile.position = [0, 0, 1, 1]));
    this.nv.setCustomLayout(single.length ? single : tiles);
    this.updateProjection();
  }

  /** Updates all that depends on what NiiVue has drawn. */
  afterDrawing() {
    const { voxel } = this;
    showValues("crosshair", this.describe(voxel));
    AXIS_SLIDERS.forEach((id, axis) => setSlider(id, voxel[axis]));
    this.drawPlaneOutlines(voxel);
    this.updateProjection();
  }

  drawPlaneOutlines(voxel) {
    const planes = $("planes");
    const canvas = $("outlines");
    if (canvas.width !== planes.width) canvas.width = planes.width;
    if (canvas.height !== planes.height) canvas.height = planes.height;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    for (const tile of this.tiles()) {
      const plane = PLANES[tile.plane];
      const pixels = [SIZE[plane.across], SIZE[plane.down]];
      for (const [name, dashed] of this.outlined()) {
        const paths = this.outlines(name, tile.plane, voxel[plane.normal]);
        drawOutlines(context, paths, pixels, tile.rectangle, dashed, window.devicePixelRatio);
      }
    }
  }

  /** Returns the planes on the canvas, each with its rectangle [left, top, width, height]. */
  tiles() {
    return this.nv.screenSlices
      .filter(({ axCorSag }) => axCorSag < PLANES.length)
      .map(({ axCorSag, leftTopWidthHeight: [left, top, width, height] }) => ({
        plane: axCorSag,
        rectangle: width < 0 ? [left + width, top, -width, height] : [left, top, width, height],
      }));
  }

  /** Returns the masks to outline, each with whether it is dashed; truth is below. */
  outlined() {
    return [["truth", false], ["prediction", true]].filter(
      ([name]) => this.masks[name] && ["outline", "both"].includes($(name).value),
    );
  }

  outlines(name, plane, index) {
    const key = `${name} ${plane} ${index}`;
    if (!this.paths.has(key)) {
      this.paths.set(key, planeOutlines(this.masks[name], PLANES[plane], index));
    }
    return this.paths.get(key);
  }

  drawProjection() {
    const canvas = $("projection");
    const scale = window.devicePixelRatio;
    const [width, height] = [canvas.clientWidth * scale, canvas.clientHeight * scale];
    if (!width) return;
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    this.projection.turn(numberOf("side"));
    this.projection.draw(canvas, {
      window: this.petWindow(),
      outlined: this.outlined(),
      crosshair: $("crosshair").checked ? this.voxel : null,
      scale,
    });
  }

  connect() {
    for (const input of document.querySelectorAll("input[type=range]")) showValue(input);
    showValues("pointer", null);
    this.applyView();
    this.applyImages();
    $("panel").addEventListener("submit", (event) => event.preventDefault());
    $("panel").addEventListener("input", ({ target }) => this.changed(target));
    $("panel").addEventListener("click", ({ target }) => this.pressed(target));
    $("open-help").addEventListener("click", () => $("help").showModal());
    const planes = $("planes");
    // Before NiiVue's own keys, which do other things.
    planes.addEventListener("keydown", (event) => this.key(event), { capture: true });
    planes.addEventListener("mousemove", (event) => this.point(event));
    planes.addEventListener("mouseleave", () => showValues("pointer", null));
    $("projection").addEventListener("click", (event) => {
      const { offsetX, offsetY, target } = event;
      const side = Math.min(target.clientWidth, target.clientHeight);
      if (Math.max(offsetX, offsetY) < side) {
        this.goTo(this.projection.voxelAt(offsetX / side, offsetY / side));
      }
    });
    window.addEventListener("resize", this.updateProjection);
  }

  changed(input) {
    if (input.type === "range") showValue(input);
    const axis = AXIS_SLIDERS.indexOf(input.id);
    if (axis >= 0) this.move(axis, Number(input.value) - this.voxel[axis]);
    else if (input.id === "view") this.applyView();
    else if (input.id === "side") this.updateProjection();
    else this.updateImages();
  }

  pressed(target) {
    const { id, dataset } = target;
    if (dataset.place) this.goToPlace(Number(dataset.place));
    else if (dataset.centre) this.setControls({ "ct-centre": dataset.centre, "ct-width": dataset.width });
    else if (id === "next") this.step(1);
    else if (id === "previous") this.step(-1);
    else if (id === "next-error") this.step(1, "error");
    else if (id === "turn") this.turnOn(target);
  }

  /** Sets controls as if the user had. */
  setControls(values) {
    for (const [id, value] of Object.entries(values)) {
      $(id).value = value;
      $(id).dispatchEvent(new Event("input", { bubbles: true }));
    }
  }

  /** Hides controls' subjects, or shows them as before. */
  toggle(ids, off) {
    const shown = ids.some((id) => $(id).value !== off);
    for (const id of ids) {
      if (shown) this.hidden[id] = $(id).value;
      this.setControls({ [id]: shown ? off : (this.hidden[id] ?? $(id).value) });
    }
  }

  turnOn(button) {
    const turns = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", turns);
    clearInterval(this.timer);
    if (turns) this.timer = setInterval(() => this.turn(5), 120);
  }

  turn(degrees) {
    this.setControls({ side: (numberOf("side") + degrees + 360) % 360 });
  }

  point({ offsetX, offsetY }) {
    const scale = this.nv.uiData.dpr;
    const fraction = this.nv.canvasPos2frac([offsetX * scale, offsetY * scale]);
    showValues("pointer", fraction[0] < 0 ? null : this.describe(voxelOfFraction(fraction)));
  }

  key(event) {
    if (event.key === "Tab" || event.ctrlKey || event.metaKey || event.altKey) return;
    event.stopImmediatePropagation();
    const steps = event.shiftKey ? 10 : 1;
    const masks = Object.keys(this.masks);
    const actions = {
      ArrowLeft: () => this.move(0, -steps),
      ArrowRight: () => this.move(0, steps),
      ArrowUp: () => this.move(1, -steps),
      ArrowDown: () => this.move(1, steps),
      PageUp: () => this.move(2, steps),
      PageDown: () => this.move(2, -steps),
      n: () => this.step(1),
      p: () => this.step(-1),
      e: () => this.step(1, "error"),
      o: () => this.toggle(masks, "none"),
      i: () => this.toggle(["pet-opacity"], "0"),
      "[": () => this.turn(-5),
      "]": () => this.turn(5),
      "?": () => $("help").showModal(),
    };
    VIEWS.forEach((view, number) => (actions[number] = () => this.setControls({ view })));
    const action = actions[event.key] ?? actions[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  }
}

start().catch((error) => {
  $("status").hidden = false;
  $("status").textContent = `The page cannot be shown: ${error.message}. Create it again.`;
  throw error;
});
