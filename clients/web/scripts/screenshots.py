"""Takes a picture of each page in both themes from a running server that sample_runs.py has filled.

`.venv/bin/python clients/web/scripts/screenshots.py --http=http://127.0.0.1:8080 --out=tests/out/screenshots [NAME ...]`.
Look at them: clear, aligned, nothing cut off, nothing empty. Fails if a page logged an error.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import urllib.request
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

VIEW = {"width": 1440, "height": 900}
WAIT_MS = 15_000
SETTLE_MS = 900
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def main() -> int:
    """Takes the pictures; returns 1 if a page complained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--http", default="http://127.0.0.1:8080")
    parser.add_argument("--out", type=Path, default=Path("tests/out/screenshots"))
    parser.add_argument("--theme", choices=["light", "dark", "both"], default="both")
    parser.add_argument("names", nargs="*", help="only pages of these names")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    pages = {
        name: address
        for name, address in addresses(arguments.http).items()
        if not arguments.names or name in arguments.names
    }
    themes = ["light", "dark"] if arguments.theme == "both" else [arguments.theme]
    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        for theme in themes:
            problems += shoot(browser, theme, arguments.http, pages, arguments.out)
        browser.close()
    for problem in problems:
        sys.stdout.write(f"screenshots: {problem}\n")
    sys.stdout.write(f"screenshots: {len(pages) * len(themes)} pictures in {arguments.out}\n")
    return 1 if problems else 0


def chromium() -> str | None:
    """Returns the browser's path; None lets Playwright take its own."""
    return os.environ.get("RUNYARD_TEST_CHROMIUM") or shutil.which("chromium")


def addresses(http: str) -> dict[str, str]:
    """Returns the addresses to look at, by name of the picture."""

    def run(project: str, name: str) -> str:
        body = {"projectPath": f"nico/{project}", "nameContains": name, "pageSize": 1}
        rows = post(http, "runyard.query.v1.QueryService/QueryRuns", body).get("runs", [])
        run_id = rows[0]["run"]["runId"] if rows else "missing"
        return f"/nico/{project}/runs/{run_id}"

    odd = run("odd-runs", "a-very-long")
    alive = run("vision", "alive")
    failed = run("vision", "adam-10")
    return {
        "home": "/",
        "project": "/nico/vision/workspace",
        "project-smooth-log": "/nico/vision/workspace?s=0.9&y=log&m=loss",
        "project-zoom": "/nico/vision/workspace?x=100..160",
        "runs": "/nico/vision/runs",
        "runs-sorted": "/nico/vision/runs?sort=s:val/loss",
        "runs-odd": "/nico/odd-runs/runs",
        "project-overview": "/nico/vision/overview",
        "run-live": f"{alive}/workspace",
        "run-live-overview": f"{alive}/overview",
        "run-failed-overview": f"{failed}/overview",
        "run-odd": f"{odd}/workspace",
        "run-odd-overview": f"{odd}/overview",
        "run-crashed-events": f"{run('odd-runs', 'crashed')}/events",
        "run-one-point": f"{run('odd-runs', 'one-point')}/workspace",
        "run-nothing": f"{run('odd-runs', 'logged-nothing')}/workspace",
        "run-files": f"{odd}/files",
        "run-wide": f"{run('wide', 'thousand')}/workspace",
        "run-long": f"{run('long', 'three')}/workspace",
        "run-long-panel": f"{run('long', 'three')}/workspace?panel=train/loss",
        "run-media": f"{run('media', 'baseline')}/workspace",
        "run-media-images": f"{run('media', 'baseline')}/workspace?m=examples",
        "run-media-plots": f"{run('media', 'baseline')}/workspace?m=plots",
        "run-media-table": f"{run('media', 'baseline')}/workspace?panel=predictions",
        "project-media": "/nico/media/workspace?m=examples",
        "no-project": "/nico/does-not-exist",
        "no-run": "/nico/vision/runs/missing",
    }


def post(
    http: str, method: str, body: dict[str, object]
) -> dict[str, list[dict[str, dict[str, str]]]]:
    """Calls a unary method with JSON."""
    request = urllib.request.Request(
        f"{http}/{method}",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        found: dict[str, list[dict[str, dict[str, str]]]] = json.load(answer)
    return found


def shoot(browser: Browser, theme: str, http: str, pages: dict[str, str], out: Path) -> list[str]:
    """Takes the pictures of one theme; returns what the pages complained of."""
    context = browser.new_context(viewport=VIEW, color_scheme=theme)  # type: ignore[arg-type]  # a str, one of the two
    page = context.new_page()
    problems: list[str] = []
    current = ""

    def heard(message: ConsoleMessage) -> None:
        # A page for what does not exist is answered 404, which the browser itself logs.
        if message.type == "error" and not current.startswith("no-"):
            problems.append(f"{current} ({theme}): {message.text}")

    page.on("console", heard)
    page.on("pageerror", lambda error: problems.append(f"{current} ({theme}): {error}"))
    for current, address in pages.items():
        page.goto(f"{http}{address}", timeout=WAIT_MS)
        settle(page)
        page.screenshot(path=out / f"{current}-{theme}.png")
    context.close()
    return problems


def settle(page: Page) -> None:
    """Waits until nothing is loading."""
    # By locators: the server's Content-Security-Policy refuses the eval that wait_for_function needs.
    page.locator("main > *").first.wait_for(timeout=WAIT_MS)
    for loading in (".skeleton", ".panel-cover.loading"):
        expect(page.locator(loading)).to_have_count(0, timeout=WAIT_MS)
    page.wait_for_timeout(SETTLE_MS)


if __name__ == "__main__":
    sys.exit(main())
