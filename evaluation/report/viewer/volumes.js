// The volumes of the page. Arrays are indexed [z, y, x] on the region's grid, whose axes are those
// of the world in LPS: x to the patient's left, y to the back, z to the head. NiiVue's fractions
// are in RAS, so its first two axes point the other way.

const HEADER_BYTES = 352;
const CASE = JSON.parse(document.getElementById("case").textContent);
const SIZE = CASE.size_xyz;

/** Returns a file of the page, inflated, or null if the page does not have it. */
async function readFile(name) {
  const element = document.getElementById(`volume-${name}`);
  if (!element) return null;
  const text = atob(element.textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  element.remove(); // frees the text
  const inflated = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(inflated).arrayBuffer();
}

/** A volume of the page: its file, its voxels, and how to look up a value. */
class Volume {
  constructor(buffer) {
    const header = new DataView(buffer);
    this.buffer = buffer;
    this.size = [42, 44, 46].map((offset) => header.getInt16(offset, true));
    this.slope = header.getFloat32(112, true);
    const Voxels = header.getInt16(70, true) === 2 ? Uint8Array : Int16Array;
    this.voxels = new Voxels(buffer, HEADER_BYTES);
  }

  /** Returns the value at a voxel (x, y, z) of the region. */
  at(voxel) {
    const [x, y, z] = voxel.map((v, axis) => Math.floor((v * this.size[axis]) / SIZE[axis]));
    return this.voxels[(z * this.size[1] + y) * this.size[0] + x] * this.slope;
  }
}

function clampVoxel(voxel) {
  return voxel.map((v, axis) => Math.min(SIZE[axis] - 1, Math.max(0, v)));
}

function voxelOfFraction(fraction) {
  const lps = [1 - fraction[0], 1 - fraction[1], fraction[2]];
  // A fraction is of 32 bits; without the small shift a voxel's edge could belong to either side.
  return clampVoxel(lps.map((f, axis) => Math.floor(f * SIZE[axis] + 1e-4)));
}

function fractionOfVoxel(voxel) {
  const [x, y, z] = voxel.map((v, axis) => (v + 0.5) / SIZE[axis]);
  return [1 - x, 1 - y, z];
}

function worldOfVoxel(voxel) {
  return voxel.map((v, axis) => CASE.origin_mm[axis] + v * CASE.spacing_mm);
}
