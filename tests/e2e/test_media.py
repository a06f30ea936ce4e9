"""What a person sees of media: images and their boxes at each step, one image large, HTML without rights, a table that is searched."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.e2e.test_ui import ARGUMENTS, CHECKOUT, OUT, VIEW, WAIT_MS, chromium
from tests.integration.yard import Yard

FILL_TIMEOUT_S = 240


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A runyard in one process with the built web application, and a run with media of every kind."""
    chromium()
    if not (CHECKOUT / "clients/web/dist/index.html").exists():
        pytest.skip("the web application is not built: make setup")
    with Yard(tmp_path_factory.mktemp("yard")) as yard:
        script = CHECKOUT / "clients/web/scripts/sample_media.py"
        command = [sys.executable, str(script), "--grpc", yard.grpc, "--runs", "1"]
        subprocess.run(command, check=True, timeout=FILL_TIMEOUT_S, capture_output=True)
        yield yard


async def open_panels(page: Page, yard: Yard, search: str) -> None:
    """Opens the only run's workspace with the panels whose names hold the text."""
    reply = yard.call("query.v1.QueryService/QueryRuns", {"projectPath": "nico/media"})
    run_id = reply["runs"][0]["run"]["runId"]
    await page.goto(f"{yard.base_url}/nico/media/runs/{run_id}/workspace?m={search}")


async def test_media_are_seen(yard: Yard) -> None:
    """All kinds draw, the step is chosen by keys and kept in the address, and nothing is logged as an error."""
    OUT.mkdir(parents=True, exist_ok=True)
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = await browser.new_page(viewport=VIEW)  # type: ignore[arg-type]  # a plain dict will do
        page.set_default_timeout(WAIT_MS)
        expect.set_options(timeout=WAIT_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await open_panels(page, yard, "examples")
        await look_at_images(page)
        await page.screenshot(path=OUT / "media-images.png")
        await open_panels(page, yard, "weights")
        heat = page.get_by_role("img", name="Histograms of weights/layer.1 over 200 steps")
        await expect(heat).to_be_visible()
        for search, name in (
            ("confusion", "Confusion"),
            ("roc", "Roc"),
            ("walk", "A walk, from a file"),
        ):
            await open_panels(page, yard, search)
            await expect(page.get_by_role("img", name=name)).to_be_visible()
        await open_panels(page, yard, "re")
        await look_at_html(page)
        await look_at_the_table(page)
        await page.screenshot(path=OUT / "media-table.png")
        await browser.close()
    assert complaints == []


async def look_at_images(page: Page) -> None:
    """Pixels arrive, steps change by keys, boxes are switched off, and one image is shown large."""
    digits = page.get_by_role("region", name="examples/digits")
    first = digits.locator(".picture img").first
    await expect(first).to_be_visible()
    await expect(first).to_have_js_property("naturalWidth", 8)
    slider = digits.get_by_role("slider", name="Step of examples/digits")
    await slider.press("Home")
    await expect(digits.locator("output")).to_have_text("step 0")
    await expect(page).to_have_url(re.compile("at=0"))
    await slider.press("ArrowRight")
    await expect(digits.locator("output")).to_have_text("step 20")
    shapes = page.get_by_role("region", name="examples/shapes")
    await expect(shapes.locator("output")).to_have_text("step 20")
    await expect(shapes.locator("rect").first).to_be_attached()
    await expect(shapes.locator("img.mask").first).to_be_attached()
    boxes = await shapes.locator("svg.boxes").count()
    await shapes.get_by_role("button", name="truth").click()
    await expect(shapes.locator("svg.boxes")).to_have_count(boxes // 2)
    await shapes.get_by_role("button", name="Enlarge: sample 0").click()
    large = page.get_by_role("dialog")
    await expect(large.get_by_role("heading")).to_contain_text("1 of 8")
    await page.keyboard.press("ArrowRight")
    await expect(large.get_by_role("heading")).to_contain_text("2 of 8")
    await page.keyboard.press("Escape")
    await expect(large).to_have_count(0)


async def look_at_html(page: Page) -> None:
    """A script within logged HTML runs, as an origin of its own, and reaches neither the page nor the server."""
    frame = page.frame_locator("iframe[title=report]")
    await expect(frame.locator("#x")).to_have_text("run, origin null")
    await expect(frame.locator("#y")).to_have_text("no")


async def look_at_the_table(page: Page) -> None:
    """Rows come exact, sort by a click on a column, and are filtered by what is typed."""
    table = page.get_by_role("region", name="predictions")
    await expect(table.locator(".table-counts")).to_have_text("5,000 rows")
    first = table.locator(".table-row").first.get_by_role("cell").first
    await expect(first).to_have_text(str(2**53))
    head = table.get_by_role("columnheader", name="id")
    await head.click()
    await head.click()
    await expect(head).to_have_attribute("aria-sort", "descending")
    await expect(first).to_have_text(str(2**53 + 4_999))
    await table.get_by_label("Value to compare with").fill("DOG")
    await page.keyboard.press("Enter")
    await expect(table.locator(".table-counts")).to_have_text("1,667 of 5,000 rows")


FIGURES = """
import numpy as np
import plotly.graph_objects as go
import runyard

with runyard.init(entity="nico", project="figures", id="drawn") as run:
    run.log({"surface": go.Figure(go.Surface(z=np.arange(16.0).reshape(4, 4)))})
    run.log({"bars": go.Figure(go.Bar(x=["a", "b"], y=[1, 2]), layout={"title": "Counts"})})
    run.log({"broken": runyard.Plotly({"data": [{"type": "bar", "y": [1]}], "layout": None})})
    table = runyard.Table(columns=["x"], data=[["seven"]])
    run.log({"own": runyard.plot_table("nico/own", table, {"x": "x"})})
    box = {"position": {"minX": 0.1, "maxX": 0.4, "minY": 0.2, "maxY": 0.5}, "class_id": 1}
    boxes = {"guesses": {"box_data": [box] * 300}}
    run.log({"boxes": [runyard.Image(np.zeros((8, 8)), boxes=boxes)] * 60})
"""


async def test_figures_of_plotly_are_drawn(yard: Yard, tmp_path: Path) -> None:
    """By Plotly under the page's policy, in two and three dimensions; boxes that lie in a file of their own are shown."""
    environment = yard.environment(tmp_path / "runyard")
    command = [sys.executable, "-c", FIGURES]
    subprocess.run(command, check=True, timeout=120, cwd=tmp_path, env=environment)
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = await browser.new_page(viewport=VIEW)  # type: ignore[arg-type]  # a plain dict will do
        page.set_default_timeout(WAIT_MS)
        expect.set_options(timeout=WAIT_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        await page.goto(f"{yard.base_url}/nico/figures/runs/drawn/workspace")
        bars = page.get_by_role("region", name="bars")
        await expect(bars.locator(".plotly-figure .barlayer .point")).to_have_count(2)
        await expect(bars.locator(".gtitle")).to_have_text("Counts")
        await expect(
            page.get_by_role("region", name="broken").locator(".barlayer")
        ).to_be_attached()
        surface = page.get_by_role("region", name="surface")
        await expect(surface.locator(".gl-container canvas")).to_be_attached()
        own = page.get_by_role("region", name="own")
        await expect(own.get_by_role("cell", name="seven")).to_be_visible()
        picture = page.get_by_role("region", name="boxes")
        await picture.scroll_into_view_if_needed()
        await expect(picture.locator("svg.boxes rect").first).to_be_attached()
        await expect(picture.get_by_role("button", name="guesses")).to_be_visible()
        await page.screenshot(path=OUT / "media-plotly.png")
        await browser.close()
    assert complaints == []
