"""What a person sees and does in a browser: a line that grows while the script trains, how the run ended, a stop, the trash."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.integration.readback import readback
from tests.integration.yard import Yard

CHECKOUT = Path(__file__).resolve().parents[2]
OUT = CHECKOUT / "tests/out"
VIEW = {"width": 1440, "height": 900}
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
WAIT_MS = 30_000
LAG_LIMIT_S = 10.0
"""Promised are 2 s; the machine of a test may be slow. What was measured is printed."""

# Logs its own step, five times a second, until the file `stop` is there.
LIVE = """
import pathlib, sys, time, runyard
run = runyard.init(entity="nico", project="live", id=sys.argv[1], config={"lr": 0.01})
for step in range(600):
    run.log({"train/loss": 100.0 - step, "step_now": step})
    pathlib.Path("step").write_text(str(step))
    time.sleep(0.2)
    if pathlib.Path("stop").exists():
        sys.exit(int(pathlib.Path("stop").read_text()))
"""


# One rank after the other, whose values are told apart; the last goes back to step 4.
RANKS = """
import runyard
for rank in range(3):
    run = runyard.init(entity="nico", project="live", id="ranks", writer=f"rank{rank}")
    for step in range(10):
        run.log({"loss": 100.0 * (rank + 1) + step}, step=step)
    run.finish()
run = runyard.init(entity="nico", project="live", resume_from="ranks?_step=4", writer="rank0")
run.log({"loss": 7.0})
run.finish()
"""


def chromium() -> str:
    """Returns the browser's path; skips where there is none."""
    for name in ("chromium", "google-chrome", "chromium-browser"):
        if path := os.environ.get("RUNYARD_TEST_CHROMIUM") or shutil.which(name):
            return path
    pytest.skip("no Chromium on this machine: apt install chromium, or RUNYARD_TEST_CHROMIUM=PATH")


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A runyard in one process, with the built web application."""
    chromium()
    if not (CHECKOUT / "clients/web/dist/index.html").exists():
        pytest.skip("the web application is not built: make setup")
    with Yard(tmp_path_factory.mktemp("yard")) as yard:
        yield yard


@pytest.fixture
def training(
    yard: Yard, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[subprocess.Popen[bytes]]:
    """A training script that is under way; its run has the id that the test is parametrized with."""
    with (tmp_path / "train.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", LIVE, request.param],
            env=yard.environment(tmp_path / "runyard"),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


async def shown_step(page: Page) -> int:
    """Returns the last value of the chart of `step_now`, as its label says."""
    chart = page.locator('section[aria-label="step_now"] [role=img]').first
    label = await chart.get_attribute("aria-label", timeout=WAIT_MS) or ""
    found = re.search(r"last (\d+)", label)
    return int(found[1]) if found else -1


@pytest.mark.parametrize("training", ["growing"], indirect=True)
async def test_a_line_grows_while_the_script_trains(
    yard: Yard, training: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """The run's page shows the charts of a live run, follows it, and says how it ended; nothing is logged as an error."""
    OUT.mkdir(parents=True, exist_ok=True)
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = await browser.new_page(viewport=VIEW)  # type: ignore[arg-type]  # a plain dict will do
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        with readback(yard.grpc) as reader:
            reader.wait_for_state("nico/live/growing", "RUNNING", timeout_s=30)
        await page.goto(f"{yard.base_url}/nico/live/runs/growing")
        chart = page.locator('section[aria-label="step_now"] [role=img]').first
        await expect(chart).to_have_attribute(
            "aria-label", re.compile(r"last \d+"), timeout=WAIT_MS
        )
        await expect(page.locator(".run-head .state-badge", has_text="running")).to_be_visible(
            timeout=WAIT_MS
        )

        first = await shown_step(page)
        lag_s = await lag(page, tmp_path)
        print(f"a logged value was on the page {lag_s:.1f} s later")
        assert lag_s < LAG_LIMIT_S
        assert await shown_step(page) > first
        await page.screenshot(path=OUT / "e2e-running.png")

        (tmp_path / "stop").write_text("3")
        assert training.wait(60) == 3
        with readback(yard.grpc) as reader:
            reader.wait_for_state("nico/live/growing", "FAILED", timeout_s=30)
        await expect(page.locator(".run-head .state-badge", has_text="failed")).to_be_visible(
            timeout=WAIT_MS
        )
        await page.screenshot(path=OUT / "e2e-failed.png")

        await page.goto(f"{yard.base_url}/nico/live")
        await expect(page.get_by_text("live").first).to_be_visible(timeout=WAIT_MS)
        await page.screenshot(path=OUT / "e2e-project.png")
        await browser.close()
    assert complaints == []


@pytest.mark.parametrize("training", ["stopped"], indirect=True)
async def test_a_run_is_stopped_deleted_and_purged(
    yard: Yard, training: subprocess.Popen[bytes]
) -> None:
    """The button stops the script, the events tell each step; in the trash the run is restored, then purged with a receipt."""
    path = "nico/live/stopped"
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = await browser.new_page(viewport=VIEW)  # type: ignore[arg-type]  # a plain dict will do
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        with readback(yard.grpc) as reader:
            reader.wait_for_state(path, "RUNNING", timeout_s=30)
        await page.goto(f"{yard.base_url}/nico/live/runs/stopped")
        await page.get_by_role("button", name="Stop", exact=True).click()
        await page.get_by_label("Reason").fill("enough seen")
        await page.get_by_role("button", name="Stop the run").click()
        assert training.wait(60) != 0
        with readback(yard.grpc) as reader:
            reader.wait_for_state(path, "KILLED", timeout_s=30)
        await expect(page.locator(".run-head .state-badge", has_text="killed")).to_be_visible(
            timeout=WAIT_MS
        )
        await page.get_by_role("link", name="Events").click()
        for words in ("asked to stop", "enough seen", "the agent has the request to stop"):
            await expect(page.get_by_text(words).first).to_be_visible(timeout=WAIT_MS)
        await page.screenshot(path=OUT / "e2e-stopped.png")

        for act in ("Restore", "Purge now"):
            await delete_run(page, yard)
            row = page.locator(".trash-row", has_text=path)
            await row.get_by_role("button", name=act).click()
            if act == "Restore":
                await expect(row).to_have_count(0, timeout=WAIT_MS)
                with readback(yard.grpc) as reader:
                    assert reader.state(path) == "KILLED"
        await page.get_by_role("button", name="Purge for good").click()
        await expect(row.get_by_text(re.compile("purged: .* freed"))).to_be_visible(timeout=120_000)
        await page.screenshot(path=OUT / "e2e-purged.png")
        await browser.close()
    assert complaints == []


async def test_writers_and_attempts_are_lines_of_their_own(yard: Yard, tmp_path: Path) -> None:
    """Chosen in the menu or by a link of the tab Writers, kept in the address; a writer that is not there is told."""
    done = subprocess.run(
        [sys.executable, "-c", RANKS],
        env=yard.environment(tmp_path / "runyard"),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    with readback(yard.grpc) as reader:
        reader.wait_for_state("nico/live/ranks", "FINISHED", timeout_s=30)
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = await browser.new_page(viewport=VIEW)  # type: ignore[arg-type]  # a plain dict will do
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        chart = page.locator('section[aria-label="loss"] [role=img]').first

        async def shows(text: str) -> None:
            await expect(chart).to_have_attribute(
                "aria-label", f"Line chart of loss: {text}", timeout=WAIT_MS
            )

        await page.goto(f"{yard.base_url}/nico/live/runs/ranks/writers")
        await page.get_by_role("link", name="rank1").click()
        await shows("rank1 last 204")
        await page.get_by_role("button", name="rank1", exact=True).click()
        await page.get_by_role("menuitemcheckbox", name="rank0").click()
        await shows("rank1 last 204; rank0 last 7")
        await page.get_by_role("menuitemcheckbox", name="Superseded points, too").click()
        await shows("rank1 last 209; rank0 last 109")
        await page.reload()
        await shows("rank1 last 209; rank0 last 109")
        await page.screenshot(path=OUT / "e2e-writers.png")
        await page.get_by_role("button", name="2 writers, superseded too").click()
        await page.get_by_role("menuitemradio", name="Each attempt").click()
        await expect(chart).to_have_attribute(
            "aria-label", re.compile("attempt 1 last 109; .* 4 lines$"), timeout=WAIT_MS
        )
        await page.screenshot(path=OUT / "e2e-attempts.png")
        await page.goto(f"{yard.base_url}/nico/live/runs/ranks/workspace?writer=rank9")
        await expect(page.get_by_text("This run has no writer “rank9”")).to_be_visible()
        await page.get_by_role("button", name="Forget").click()
        await expect(page.get_by_role("button", name="All writers")).to_be_visible()
        await browser.close()
    assert complaints == []


async def delete_run(page: Page, yard: Yard) -> None:
    """Deletes the stopped run on its page, and goes to the trash."""
    await page.goto(f"{yard.base_url}/nico/live/runs/stopped")
    await page.get_by_role("button", name="Delete this run").click()
    await page.get_by_role("button", name="Move to the trash").click()
    await expect(page.get_by_role("dialog")).to_have_count(0, timeout=WAIT_MS)
    await page.goto(f"{yard.base_url}/trash")


async def lag(page: Page, folder: Path) -> float:
    """Returns how long it takes until what was logged now is on the page."""
    wanted = int((folder / "step").read_text())
    began = time.monotonic()
    while await shown_step(page) < wanted:
        assert time.monotonic() - began < 3 * LAG_LIMIT_S, f"step {wanted} never came"
        await page.wait_for_timeout(50)
    return time.monotonic() - began
