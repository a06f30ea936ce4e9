"""What a person sees of what a script prints: lines that come while it runs, a bar that moves, searches, links to a line."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import async_playwright, expect

from tests.e2e.test_ui import ARGUMENTS, CHECKOUT, OUT, VIEW, WAIT_MS, chromium
from tests.integration.readback import readback
from tests.integration.yard import Yard

LAG_LIMIT_MS = 10_000
"""Promised are some seconds; the machine of a test may be slow."""

# Prints a beginning, then what it is told by its input: each line of it is printed as it says.
PRINTER = """
import sys, runyard
run = runyard.init(entity="nico", project="logs", id="printer")
print("the first line, with a needle")
for step in range(3000):
    print(f"\\x1b[32mINFO\\x1b[0m step {step}")
print("something is odd", file=sys.stderr)
sys.stdout.flush()
for told in sys.stdin:
    stream = sys.stderr if told.startswith("bar") else sys.stdout
    print("\\r" + told.strip() if told.startswith("bar") else told.strip(), end="" if told.startswith("bar") else "\\n",
        file=stream, flush=True)
print()
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
def printer(yard: Yard, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A script that prints what it is told."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRINTER],
        env=yard.environment(tmp_path / "runyard"),
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        bufsize=0,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
        # Its end is told while the server lives; an agent would wait for one for ever.
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate(timeout=10)


async def test_lines_are_followed_searched_and_linked(
    yard: Yard, printer: subprocess.Popen[bytes]
) -> None:
    """Lines come while the script runs and a bar moves in its line; a search finds the first line, which its link shows."""

    def tell(text: str) -> None:
        assert printer.stdin is not None
        printer.stdin.write(f"{text}\n".encode())

    OUT.mkdir(parents=True, exist_ok=True)
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = await browser.new_page(viewport=VIEW)  # type: ignore[arg-type]  # a plain dict will do
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        lines = page.locator(".log-line")

        with readback(yard.grpc) as reader:
            reader.wait_for_state("nico/logs/printer", "RUNNING", timeout_s=30)
        await page.goto(f"{yard.base_url}/nico/logs/runs/printer")
        await page.get_by_role("link", name="Logs", exact=True).click()
        await expect(lines.filter(has_text="something is odd")).to_be_visible(timeout=WAIT_MS)
        tell("a line that was printed live")
        await expect(lines.filter(has_text="a line that was printed live")).to_be_visible(
            timeout=LAG_LIMIT_MS
        )
        await expect(lines.locator(".ansi-2", has_text="INFO").first).to_be_visible()
        await expect(lines.filter(has_text="something is odd")).to_have_class(re.compile("stderr"))

        bar = lines.filter(has_text="bar ")
        for share in ("bar 10%", "bar 90%"):
            tell(share)
            await expect(bar).to_have_count(1, timeout=WAIT_MS)
            await expect(bar).to_contain_text(share, timeout=WAIT_MS)
        await page.screenshot(path=OUT / "e2e-logs.png")

        await page.keyboard.press("/")
        await page.keyboard.type("NEEDLE")
        await expect(page.get_by_text("1 line found")).to_be_visible()
        await expect(lines.locator("mark", has_text="needle")).to_be_visible()
        await lines.locator(".log-time").click()
        await expect(page).to_have_url(re.compile(r"line=\d+%3A\d+"))
        link = page.url
        await page.get_by_role("button", name="Back to the results").click()
        await expect(lines).to_have_count(1)

        await page.goto(re.sub(r"q=NEEDLE&|%40\d+", "", link))
        chosen = page.locator(".log-line.chosen")
        await expect(chosen).to_contain_text("the first line, with a needle")
        await expect(lines.get_by_text("INFO step 3", exact=True)).to_be_visible()
        await page.get_by_role("button", name="Jump to end").click()
        await expect(bar).to_contain_text("bar 90%")
        await page.screenshot(path=OUT / "e2e-logs-end.png")
        await browser.close()
    assert complaints == []
