// Outlines of label maps along the edges of voxels. Truth is solid and prediction dashed, as in the
// pictures of the report, so that no meaning depends on colour alone.

const LABELS = [
  { value: 1, name: "GTVp", colour: "#3ddc4a" },
  { value: 2, name: "GTVn", colour: "#ffe11a" },
];
const LABEL_NAMES = ["none", ...LABELS.map((label) => label.name)];

/** The planes by NiiVue's number. `across` and `down` are the axes of the picture; the head is up. */
const PLANES = [
  { name: "axial", normal: 2, across: 0, down: 1, upwards: false },
  { name: "coronal", normal: 1, across: 0, down: 2, upwards: true },
  { name: "sagittal", normal: 0, across: 1, down: 2, upwards: true },
];

/** Returns the outline of a picture's pixels as closed loops.
 *
 * @param isInside whether the pixel (column, row) is inside; false outside the picture.
 * @returns a Path2D in pixels; null if no pixel is inside. */
function trace(isInside, width, height) {
  const next = new Map(); // from each corner to the corners that follow, with the inside to the right
  const add = (x, y, toX, toY) => {
    const from = y * (width + 1) + x;
    if (!next.has(from)) next.set(from, []);
    next.get(from).push(toY * (width + 1) + toX);
  };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!isInside(x, y)) continue;
      if (y === 0 || !isInside(x, y - 1)) add(x, y, x + 1, y);
      if (x === width - 1 || !isInside(x + 1, y)) add(x + 1, y, x + 1, y + 1);
      if (y === height - 1 || !isInside(x, y + 1)) add(x + 1, y + 1, x, y + 1);
      if (x === 0 || !isInside(x - 1, y)) add(x, y + 1, x, y);
    }
  }
  if (!next.size) return null;
  const path = new Path2D();
  for (const start of next.keys()) {
    while (next.get(start).length) {
      path.moveTo(start % (width + 1), Math.floor(start / (width + 1)));
      let corner = next.get(start).pop();
      while (corner !== start) {
        path.lineTo(corner % (width + 1), Math.floor(corner / (width + 1)));
        corner = next.get(corner).pop();
      }
      path.closePath();
    }
  }
  return path;
}

/** Returns the outlines of a label map in a plane, one for each label, null where there is none. */
function planeOutlines(volume, plane, index) {
  const { normal, across, down, upwards } = plane;
  const voxel = [0, 0, 0];
  voxel[normal] = index;
  return LABELS.map(({ value }) =>
    trace(
      (column, row) => {
        voxel[across] = column;
        voxel[down] = upwards ? SIZE[down] - 1 - row : row;
        return volume.at(voxel) === value;
      },
      SIZE[across],
      SIZE[down],
    ),
  );
}

/** Draws outlines into a rectangle [left, top, width, height] of a canvas. */
function drawOutlines(context, paths, pixels, rectangle, dashed, scale) {
  const [left, top, width, height] = rectangle;
  const matrix = new DOMMatrix([width / pixels[0], 0, 0, height / pixels[1], left, top]);
  context.setLineDash(dashed ? [5 * scale, 4 * scale] : []);
  paths.forEach((path, index) => {
    if (!path) return;
    const placed = new Path2D();
    placed.addPath(path, matrix);
    context.lineWidth = 3 * scale; // a dark rim, for contrast with bright voxels
    context.strokeStyle = "rgba(0, 0, 0, 0.55)";
    context.stroke(placed);
    context.lineWidth = 1.6 * scale;
    context.strokeStyle = LABELS[index].colour;
    context.stroke(placed);
  });
}
