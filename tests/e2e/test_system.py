"""What a person sees of a run's machine: charts that go on while it runs, a zoom that a link keeps, one chart made large, why there are none."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, async_playwright, expect

from tests.e2e.test_ui import ARGUMENTS, CHECKOUT, OUT, VIEW, WAIT_MS, chromium
from tests.integration.readback import readback
from tests.integration.yard import Yard

# Works a little until its input ends.
WORKER = """
import sys, runyard
run = runyard.init(entity="nico", project="system", id="worker", settings={"system_interval_s": 0.2})
sys.stdin.read()
"""

# Is not sampled.
UNSAMPLED = """
import runyard
run = runyard.init(entity="nico", project="system", id="unsampled", settings={"system_interval_s": 0})
run.log({"x": 1})
run.finish()
"""


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A runyard in one process, with the built web application."""
    chromium()
    if not (CHECKOUT / "clients/web/dist/index.html").exists():
        pytest.skip("the web application is not built: make setup")
    with Yard(tmp_path_factory.mktemp("yard")) as yard:
        yield yard


@pytest.fixture
def worker(yard: Yard, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A script that runs until its input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER],
        env=yard.environment(tmp_path / "runyard"),
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=10)


def chart(page: Page, title: str) -> Locator:
    return page.get_by_role("region", name=title)


async def test_charts_go_on_are_zoomed_and_filtered(
    yard: Yard, worker: subprocess.Popen[bytes]
) -> None:
    """Charts of the machine come while the script runs; a drag zooms all of them and is in the link; a filter and a large chart, too."""
    OUT.mkdir(parents=True, exist_ok=True)
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = await browser.new_page(viewport=VIEW)  # type: ignore[arg-type]  # a plain dict will do
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))

        with readback(yard.grpc) as reader:
            reader.wait_for_state("nico/system/worker", "RUNNING", timeout_s=30)
        await page.goto(f"{yard.base_url}/nico/system/runs/worker")
        await page.get_by_role("link", name="System", exact=True).click()
        memory = chart(page, "Memory Memory in use %")
        drawn = memory.get_by_role("img")
        await expect(drawn).to_have_attribute("aria-label", re.compile(r"last [\d.]+ %"))
        await expect(memory.get_by_text("every sample")).to_be_visible()

        worker_memory = chart(page, "Process Threads").locator(".system-last")
        await worker_memory.scroll_into_view_if_needed()
        await expect(worker_memory).to_have_text(re.compile(r"^\d+$"))
        await page.screenshot(path=OUT / "e2e-system.png")
        assert worker.stdin is not None
        worker.stdin.close()
        await expect(page.get_by_role("img", name="finished").first).to_be_visible(timeout=WAIT_MS)

        await page.get_by_role("searchbox", name="Filter charts").fill("memory %")
        await expect(page.get_by_role("heading", level=3)).to_have_count(2)
        await drag(page, drawn)
        await expect(page).to_have_url(re.compile(r"t=\d+%2C\d+"))
        link = page.url
        await page.get_by_role("button", name="Show the whole run").click()
        await expect(page).not_to_have_url(re.compile(r"[?&]t="))
        await page.go_back()
        await expect(page).to_have_url(link)
        await page.get_by_role("button", name="Clock").click()
        await memory.hover()
        await memory.get_by_role("button", name="Enlarge").click()
        await expect(memory).to_have_class(re.compile("large"))
        await page.screenshot(path=OUT / "e2e-system-large.png")
        await browser.close()
    assert complaints == []


async def drag(page: Page, drawn: Locator) -> None:
    """Drags over the middle of a chart."""
    box = await drawn.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    await page.mouse.move(box["x"] + box["width"] * 0.4, y)
    await page.mouse.down()
    await page.mouse.move(box["x"] + box["width"] * 0.8, y, steps=5)
    await page.mouse.up()


async def test_the_page_says_why_there_are_none(yard: Yard, tmp_path: Path) -> None:
    """A run that switched sampling off says so."""
    subprocess.run(
        [sys.executable, "-c", UNSAMPLED],
        env=yard.environment(tmp_path / "runyard"),
        cwd=tmp_path,
        check=True,
        timeout=60,
        capture_output=True,
    )
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = await browser.new_page(viewport=VIEW)  # type: ignore[arg-type]  # a plain dict will do
        page.set_default_timeout(WAIT_MS)
        await page.goto(f"{yard.base_url}/nico/system/runs/unsampled/system")
        await expect(page.get_by_text("system_interval_s=0")).to_be_visible()
        await browser.close()
