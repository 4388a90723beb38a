"""The viewer in Chromium, opened from disk: pictures and values agree with the arrays."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from evaluation.report.pictures import CT_WINDOW_HU
from tests.evaluation.report import chromium
from tests.evaluation.report.viewer.conftest import LABELS, Viewed

pytestmark = chromium.needs_chromium

POINTS = 10
READ = "return ['hu', 'suv', 'prediction', 'truth', 'mm'].map("
READ += "key => document.getElementById(arguments[0] + '-' + key).textContent)"
FOCUSABLE = "main a, main button:enabled, main input, main select, main canvas[tabindex]"


SIZE = (1000, 640)
"""Small, because drawing without a GPU takes longer in a larger window."""
RESET = """
    document.getElementById('panel').reset();
    viewer.place = -1;
    viewer.applyView();
    viewer.applyImages();
    viewer.goTo([96, 96, 96]);
    document.body.tabIndex = -1;
    document.body.focus();"""


@pytest.fixture(scope="module")
def opened(browser: Chrome, viewed: Viewed) -> Iterator[Chrome]:
    """Return the browser with the page open and ready."""
    size = browser.get_window_size()
    browser.set_window_size(*SIZE)
    chromium.open_page(browser, viewed.page)
    WebDriverWait(browser, 100).until(lambda b: b.execute_script("return Boolean(window.viewer)"))
    yield browser
    browser.set_window_size(size["width"], size["height"])


@pytest.fixture
def page(opened: Chrome) -> Chrome:
    """Return the browser with the page reset to its first state, except for the crosshair."""
    opened.execute_script(RESET)
    return opened


def set_controls(page: Chrome, **values: str | float) -> None:
    page.execute_script("viewer.setControls(arguments[0])", values)
    frames = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
    page.execute_async_script(frames)


def check(page: Chrome, viewed: Viewed, column: str, x: int, y: int, z: int) -> None:
    """Check what a column of the table of values says about a voxel."""
    hu, suv, prediction, truth, mm = page.execute_script(READ, column)
    assert float(hu) == pytest.approx(float(viewed.view.ct_hu[z, y, x]), abs=1.01)
    assert float(suv) == pytest.approx(viewed.suv(x, y, z), abs=0.0076)  # rounded twice
    assert prediction == LABELS[viewed.view.prediction[z, y, x]]
    assert truth == LABELS[viewed.view.truth[z, y, x]]
    world = viewed.grid.world_mm(np.array([[x, y, z]], float))[0]
    np.testing.assert_allclose([float(value) for value in mm.split(", ")], world, atol=0.051)


def draw_points(viewed: Viewed) -> list[tuple[int, int, int]]:
    """Draw points: some of both label maps, the others anywhere in the body."""
    rng = np.random.default_rng(20)
    masks = [viewed.view.truth == 2, viewed.view.prediction == 1, viewed.view.ct_hu > -500]
    chosen: list[tuple[int, int, int]] = []
    for mask, count in zip(masks, (3, 3, POINTS - 6), strict=True):
        for z, y, x in rng.choice(np.argwhere(mask), count, replace=False).tolist():
            chosen.append((x, y, z))
    return chosen


def screenshot(page: Chrome) -> NDArray[Any]:
    """Return the canvas of the planes as it is drawn now, as grey values from 0 to 255."""
    url = page.execute_script(
        "viewer.nv.drawScene(); return document.getElementById('planes').toDataURL()"
    )
    png = base64.b64decode(url.partition(",")[2])
    picture: NDArray[Any] = matplotlib.image.imread(io.BytesIO(png), format="png")
    return picture[..., 0] * 255


def test_page_opens_without_errors_and_requests(page: Chrome, viewed: Viewed) -> None:
    console, requested = chromium.logged(page, viewed.page)
    assert console == []
    assert requested == []
    assert not page.find_element(By.ID, "status").is_displayed()
    (error,) = page.find_elements(By.CSS_SELECTOR, "[data-place='0']")
    assert error.text.startswith("missed node")


def test_values_at_the_crosshair_and_the_pointer_agree_with_the_volume(
    page: Chrome, viewed: Viewed
) -> None:
    set_controls(page, view="axial")
    planes = page.find_element(By.ID, "planes")
    for x, y, z in draw_points(viewed):
        page.execute_script("viewer.goTo(arguments[0])", [x, y, z])
        check(page, viewed, "crosshair", x, y, z)
        # Move the pointer to the middle of the voxel; the canvas has one tile.
        (tile,) = page.execute_script("return viewer.tiles()")
        left, top, width, height = tile["rectangle"]
        nx, ny, _ = viewed.grid.size_xyz
        across, down = left + (x + 0.5) / nx * width, top + (y + 0.5) / ny * height
        offset = round(across - planes.size["width"] / 2), round(down - planes.size["height"] / 2)
        ActionChains(page, duration=0).move_to_element_with_offset(planes, *offset).perform()
        check(page, viewed, "pointer", x, y, z)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_slice_shown_equals_the_array(page: Chrome, viewed: Viewed, plane: str) -> None:
    x, y, z = 90, 100, 110
    page.execute_script("viewer.goTo(arguments[0])", [x, y, z])
    for name in ("crosshair", "smooth"):
        page.find_element(By.ID, name).click()
    set_controls(page, view=plane, prediction="none", truth="none", **{"pet-opacity": 0})
    picture = screenshot(page)
    (tile,) = page.execute_script("return viewer.tiles()")
    left, top, width, height = tile["rectangle"]
    ct = viewed.view.ct_hu
    slices = {"axial": ct[z], "coronal": ct[::-1, y], "sagittal": ct[::-1, :, x]}
    low, high = CT_WINDOW_HU
    grey = np.clip((slices[plane] - low) / (high - low), 0, 1) * 255
    rows = np.arange(grey.shape[0])
    columns = np.arange(grey.shape[1])
    at_rows = (top + (rows + 0.5) / len(rows) * height).astype(int)
    at_columns = (left + (columns + 0.5) / len(columns) * width).astype(int)
    shown = picture[np.ix_(at_rows, at_columns)]
    off = np.abs(shown - grey) > 2  # 1 HU is 0.64 grey levels
    off[:12] = off[:, :12] = False  # the letters that name the sides
    off[len(rows) // 2 - 12 : len(rows) // 2 + 12, :12] = False
    assert np.ptp(grey) == pytest.approx(255)
    assert np.argwhere(off).tolist() == []


def test_outline_surrounds_the_mask(page: Chrome, viewed: Viewed) -> None:
    mask = viewed.view.truth == 2
    z = int(np.argmax(mask.sum(axis=(1, 2))))
    page.execute_script("viewer.goTo(arguments[0])", [5, 5, z])
    set_controls(page, view="axial", prediction="none", truth="outline")
    (tile,) = page.execute_script("return viewer.tiles()")
    script = """
        const canvas = document.getElementById('outlines');
        const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        const at = [];
        for (let i = 0; i < data.length; i += 4) {
            if (data[i] > 200 && data[i + 1] > 180) {
                at.push([(i / 4) % canvas.width, Math.floor(i / 4 / canvas.width)]);
            }
        }
        return at;"""
    at = np.array(page.execute_script(script), float) + 0.5
    left, top, width, height = tile["rectangle"]
    voxels = (at - [left, top]) / [width, height] * viewed.grid.size_xyz[:2]
    rows, columns = np.nonzero(mask[z])
    low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
    np.testing.assert_allclose(voxels.min(axis=0), low, atol=0.5)
    np.testing.assert_allclose(voxels.max(axis=0), high, atol=0.5)


@pytest.mark.parametrize(("side", "axis"), [(0, 1), (90, 2)])
def test_projection_is_the_maximum(page: Chrome, viewed: Viewed, side: int, axis: int) -> None:
    set_controls(page, side=side)
    script = """
        const {projection} = viewer;
        return Array.from(projection.brightest, i => projection.pet.voxels[i]);"""
    shown = np.array(page.execute_script(script)) * 0.005
    suv = viewed.view.pet_suv
    z, y, x = (n // 2 for n in suv.shape)
    blocks = suv.reshape(z, 2, y, 2, x, 2).mean(axis=(1, 3, 5))
    expected = blocks.max(axis=axis)[::-1]
    np.testing.assert_allclose(shown.reshape(expected.shape), expected, atol=0.003)


def test_projection_leads_to_the_highest_uptake(page: Chrome, viewed: Viewed) -> None:
    mask = viewed.view.prediction == 1
    suv = np.where(mask, viewed.view.pet_suv, 0)
    z, y, x = np.unravel_index(np.argmax(suv), suv.shape)
    voxel = page.execute_script(
        "const p = viewer.projection;"
        "return p.voxelAt(...p.fractionOf(arguments[0]))", [int(x), int(y), int(z)],
    )  # fmt: skip
    assert np.abs(np.array(voxel) - [x, y, z]).max() <= 4


def test_wheel_changes_the_slice(page: Chrome) -> None:
    set_controls(page, view="axial")
    before = page.execute_script("return viewer.voxel")
    planes = page.find_element(By.ID, "planes")
    ActionChains(page, duration=0).move_to_element_with_offset(planes, 30, 20).click().perform()
    clicked = page.execute_script("return viewer.voxel")
    page.execute_script(
        "const {left, top, width, height} = arguments[0].getBoundingClientRect();"
        "arguments[0].dispatchEvent(new WheelEvent('wheel', {deltaY: -100, cancelable: true,"
        "clientX: left + width / 2, clientY: top + height / 2}))", planes,
    )  # fmt: skip
    after = page.execute_script("return viewer.voxel")
    assert clicked[2] == before[2]
    assert clicked[:2] != before[:2]
    assert after[:2] == clicked[:2]
    assert abs(after[2] - clicked[2]) in (1, 2)


def test_keyboard_alone_reaches_every_control(page: Chrome) -> None:
    expected = page.find_elements(By.CSS_SELECTOR, FOCUSABLE)
    assert len(expected) >= 25
    reached = []
    for _ in expected:
        ActionChains(page, duration=0).send_keys(Keys.TAB).perform()
        element = page.switch_to.active_element
        reached.append(element)
        assert element.accessible_name.strip()
        assert page.execute_script("return arguments[0].matches(':focus-visible')", element)
        assert element.value_of_css_property("outline-style") == "solid"
    assert reached == expected


def test_keys_move_the_crosshair_and_jump(page: Chrome) -> None:
    page.execute_script("viewer.goTo([90, 91, 92]); document.getElementById('planes').focus()")

    def press(*keys: str) -> list[int]:
        ActionChains(page, duration=0).send_keys(*keys).perform()
        voxel: list[int] = page.execute_script("return viewer.voxel")
        return voxel

    assert press(Keys.ARROW_RIGHT) == [91, 91, 92]
    assert press(Keys.ARROW_LEFT, Keys.ARROW_LEFT) == [89, 91, 92]
    assert press(Keys.ARROW_UP) == [89, 90, 92]
    assert press(Keys.ARROW_DOWN) == [89, 91, 92]
    assert press(Keys.PAGE_UP) == [89, 91, 93]
    assert press(Keys.PAGE_DOWN) == [89, 91, 92]
    places = page.execute_script(
        "return JSON.parse(document.getElementById('case').textContent).places"
    )
    for place in (*places, places[0]):
        assert press("n") == place["voxel_xyz"]
    assert press("p") == places[-1]["voxel_xyz"]
    assert press("e") == places[0]["voxel_xyz"]
    assert page.find_element(By.ID, "spoken").get_attribute("textContent") == places[0]["text"]
    masks = "return ['prediction', 'truth'].map(id => document.getElementById(id).value)"
    press("o")
    assert page.execute_script(masks) == ["none", "none"]
    press("o")
    assert page.execute_script(masks) == ["outline", "outline"]
    press("2")
    assert page.find_element(By.ID, "view").get_attribute("value") == "coronal"
    press("?")
    assert page.find_element(By.ID, "help").is_displayed()
    press(Keys.ESCAPE)
    assert not page.find_element(By.ID, "help").is_displayed()


@pytest.mark.parametrize("width", [2560, 1280, 700])
def test_nothing_is_wider_than_the_screen(page: Chrome, width: int) -> None:
    page.set_window_size(width, 500)
    script = """
        const sides = id => {
            const {width, height} = document.getElementById(id).getBoundingClientRect();
            return [width, height];
        };
        return [document.documentElement.scrollWidth, window.innerWidth,
                sides('stage'), sides('planes')];"""
    page_width, window_width, stage, planes = page.execute_script(script)
    page.set_window_size(*SIZE)
    assert page_width <= window_width
    assert stage == planes
    assert stage[0] == pytest.approx(stage[1], abs=1)


def test_browser_without_webgl_is_told(browser: Chrome, viewed: Viewed) -> None:
    text = viewed.page.read_text(encoding="utf-8")
    broken = viewed.page.with_name("no_webgl.html")
    broken.write_text(
        text.replace('getContext("webgl2"))', 'getContext("none"))'), encoding="utf-8"
    )
    chromium.open_page(browser, broken)
    status = browser.find_element(By.ID, "status")
    WebDriverWait(browser, 60).until(lambda _: "WebGL 2" in status.text)
