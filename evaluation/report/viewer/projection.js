// The maximum intensity projection of the PET, seen from any side: it turns about the body's axis.

const CROSSHAIR_COLOUR = "rgba(89, 191, 255, 0.8)"; // as NiiVue draws it, see images.js
const SIDES = ["R", "A", "L", "P"]; // on the left of the picture, at 0, 90, 180 and 270 degrees
const DEPTH_STEPS_PER_COLUMN = Math.SQRT2; // rays also pass through the corners of the region

/** Returns the largest label of each block of a label map, on the PET's grid. */
function shrinkLabels(volume, size) {
  const labels = new Uint8Array(size[0] * size[1] * size[2]);
  const factor = volume.size.map((n, axis) => n / size[axis]);
  let from = 0;
  for (let z = 0; z < volume.size[2]; z++) {
    for (let y = 0; y < volume.size[1]; y++) {
      const row = (Math.floor(z / factor[2]) * size[1] + Math.floor(y / factor[1])) * size[0];
      for (let x = 0; x < volume.size[0]; x++, from++) {
        const value = volume.voxels[from];
        if (!value) continue;
        const to = row + Math.floor(x / factor[0]);
        if (value > labels[to]) labels[to] = value;
      }
    }
  }
  return labels;
}

class Projection {
  constructor(pet, masks) {
    this.pet = pet;
    [this.columns, this.depth, this.rows] = pet.size;
    this.masks = Object.fromEntries(
      Object.entries(masks).map(([name, volume]) => [name, shrinkLabels(volume, pet.size)]),
    );
    this.brightest = new Int32Array(this.columns * this.rows); // index of the voxel, by pixel
  }

  /** Projects PET and label maps; at 0 degrees one sees the face, at 90 the face is on the left. */
  turn(degrees) {
    if (degrees === this.degrees) return;
    this.degrees = degrees;
    const angle = (degrees * Math.PI) / 180;
    this.cos = Math.cos(angle);
    this.sin = Math.sin(angle);
    const rays = this.rays();
    const plane = this.columns * this.depth;
    const { voxels } = this.pet;
    for (let row = 0; row < this.rows; row++) {
      const first = (this.rows - 1 - row) * plane;
      for (let column = 0; column < this.columns; column++) {
        let best = first + rays[column][0];
        for (const offset of rays[column]) {
          if (voxels[first + offset] > voxels[best]) best = first + offset;
        }
        this.brightest[row * this.columns + column] = best;
      }
    }
    this.outlines = {};
    for (const [name, labels] of Object.entries(this.masks)) {
      this.outlines[name] = this.maskOutlines(labels, rays, plane);
    }
  }

  /** Returns, for each column, the voxels of an axial plane that its ray passes. */
  rays() {
    const middle = [(this.columns - 1) / 2, (this.depth - 1) / 2];
    const steps = Math.ceil((this.depth * DEPTH_STEPS_PER_COLUMN) / 2);
    return Array.from({ length: this.columns }, (_, column) => {
      const ray = [];
      const u = column - middle[0];
      for (let d = -steps; d <= steps; d++) {
        const x = Math.round(middle[0] + u * this.cos - d * this.sin);
        const y = Math.round(middle[1] + u * this.sin + d * this.cos);
        if (x >= 0 && x < this.columns && y >= 0 && y < this.depth) ray.push(y * this.columns + x);
      }
      return ray.length ? ray : [0];
    });
  }

  maskOutlines(labels, rays, plane) {
    const { columns, rows } = this;
    return LABELS.map(({ value }) => {
      const seen = new Uint8Array(columns * rows);
      for (let z = 0; z < rows; z++) {
        const first = z * plane;
        if (!labels.subarray(first, first + plane).includes(value)) continue;
        for (let column = 0; column < columns; column++) {
          if (rays[column].some((offset) => labels[first + offset] === value)) {
            seen[(rows - 1 - z) * columns + column] = 1;
          }
        }
      }
      return trace((x, y) => seen[y * columns + x] === 1, columns, rows);
    });
  }

  /** Returns the picture in grey, with the window [low, high] in SUV. */
  picture(low, high) {
    const image = new ImageData(this.columns, this.rows);
    const { voxels, slope } = this.pet;
    for (let pixel = 0; pixel < this.brightest.length; pixel++) {
      const suv = voxels[this.brightest[pixel]] * slope;
      const grey = (255 * (suv - low)) / (high - low);
      image.data.set([grey, grey, grey, 255], 4 * pixel); // clamped by the array
    }
    return image;
  }

  /** Draws the picture, outlines and the crosshair into the upper left square of a canvas. */
  draw(canvas, { window: [low, high], outlined, crosshair, scale }) {
    const picture = this.picture(low, high);
    const small = new OffscreenCanvas(picture.width, picture.height);
    small.getContext("2d").putImageData(picture, 0, 0);
    const side = Math.min(canvas.width, canvas.height);
    const area = [0, 0, side, side];
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingQuality = "high";
    context.drawImage(small, ...area);
    for (const [name, dashed] of outlined) {
      const pixels = [picture.width, picture.height];
      drawOutlines(context, this.outlines[name], pixels, area, dashed, scale);
    }
    this.drawSides(context, side, scale);
    if (!crosshair) return;
    const [x, y] = this.fractionOf(crosshair).map((fraction) => fraction * side);
    context.setLineDash([]);
    context.strokeStyle = CROSSHAIR_COLOUR;
    context.lineWidth = scale;
    context.beginPath();
    for (const [x0, y0, x1, y1] of [[x, 0, x, side], [0, y, side, y]]) {
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
    }
    context.stroke();
  }

  /** Writes which side of the patient is on the left and on the right. */
  drawSides(context, side, scale) {
    const quarter = Math.round(this.degrees / 90);
    context.font = `${14 * scale}px sans-serif`;
    context.fillStyle = "#d9d9d9";
    context.textBaseline = "middle";
    for (const [turned, align, x] of [[quarter, "left", 4 * scale], [quarter + 2, "right", side - 4 * scale]]) {
      context.textAlign = align;
      context.fillText(SIDES[turned % 4], x, side / 2);
    }
  }

  /** Returns where a voxel of the region is in the picture, as fractions of width and height. */
  fractionOf(voxel) {
    const [x, y, z] = voxel.map((v, axis) => (v + 0.5) / SIZE[axis] - 0.5);
    return [0.5 + x * this.cos + y * this.sin, 0.5 - z];
  }

  /** Returns the region's voxel with the highest uptake behind a point of the picture. */
  voxelAt(across, down) {
    const column = Math.min(this.columns - 1, Math.floor(across * this.columns));
    const row = Math.min(this.rows - 1, Math.floor(down * this.rows));
    const best = this.brightest[row * this.columns + column];
    const plane = this.columns * this.depth;
    const found = [best % this.columns, Math.floor((best % plane) / this.columns), Math.floor(best / plane)];
    return clampVoxel(found.map((v, axis) => Math.floor(((v + 0.5) * SIZE[axis]) / this.pet.size[axis])));
  }
}
