// Gives the volumes to NiiVue: CT as the background, PET and the fills of the masks over it.

const MASKS = ["prediction", "truth"];
const PET_COLOURS = { // hot metal; more transparent where the uptake is low
  R: [0, 160, 255, 255, 255],
  G: [0, 0, 80, 220, 255],
  B: [0, 60, 0, 60, 220],
  A: [0, 150, 220, 255, 255],
  I: [0, 64, 128, 200, 255],
};
const FILLS = {
  R: [0, 61, 255], G: [0, 220, 225], B: [0, 74, 26], A: [0, 255, 255], I: [0, 1, 2],
  labels: LABEL_NAMES,
};

/** Returns NiiVue with the volumes; the CT is the background. */
async function openNiivue(volumes) {
  const nv = new window.Niivue({
    backColor: [0, 0, 0, 1],
    crosshairColor: [0.35, 0.75, 1, 0.8],
    crosshairWidth: 1,
    crosshairGap: 6,
    clipPlaneHotKey: "",
    dragAndDropEnabled: false,
    dragMode: 0,
    fontColor: [0.85, 0.85, 0.85, 1],
    isColorbar: false,
    isRadiologicalConvention: true,
    loadingText: "",
    logLevel: "silent",
    sagittalNoseLeft: true,
    showLegend: false,
    viewModeHotKey: "",
  });
  await nv.attachToCanvas($("planes"), false);
  nv.addColormap("uptake", PET_COLOURS);
  nv.updateGLVolume = () => {}; // NiiVue would prepare all volumes again after each of them
  for (const [name, volume] of Object.entries(volumes)) {
    await nv.addVolumeFromUrl({
      url: `${name}.nii`,
      name: `${name}.nii`,
      buffer: volume.buffer,
      colormap: name === "pet" ? "uptake" : "gray",
      opacity: name === "ct" ? 1 : 0,
    });
  }
  delete nv.updateGLVolume;
  Object.keys(volumes).forEach((name, index) => {
    if (MASKS.includes(name)) nv.volumes[index].setColormapLabel(FILLS);
  });
  return nv;
}
