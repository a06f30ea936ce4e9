"""What a person sees of the files of a run: folders, search, each kind of file, a large one's beginning, removal; nothing of them runs."""

from __future__ import annotations

import json
import struct
import wave
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.e2e.test_ui import ARGUMENTS, CHECKOUT, OUT, VIEW, WAIT_MS, chromium
from tests.integration import scripts
from tests.integration.yard import Yard

RUN = "nico/files/shown"
SAVE = """
import runyard
run = runyard.init(entity="nico", project="files", id="shown")
run.save("data", base_path="data")
"""
EVIL = "<h1>report</h1><script>document.title = 'taken'; parent.document.title = 'taken'</script>"
SVG = "<svg xmlns='http://www.w3.org/2000/svg' width='60' height='40'><circle cx='20' cy='20' r='15' fill='teal'/><script>alert(1)</script></svg>"
BIG_LINE = "step 000000 loss 0.123456 a line of a large log\n"


def png(width: int, height: int) -> bytes:
    """Returns a picture of one colour that goes over into nothing."""
    rows = b"".join(
        b"\0" + b"".join(bytes((36, 86, 214, 255 * x // width)) for x in range(width))
        for _ in range(height)
    )

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 144]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>endobj\n"
    b"4 0 obj<</Length 44>>stream\nBT /F1 24 Tf 20 60 Td (A page of a PDF) Tj ET\nendstream endobj\n"
    b"5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)


def make_files(folder: Path) -> None:
    config = {
        "lr": 0.001,
        "layers": [64, 32],
        "name": "a <b>bold</b> model",
        "deep": {"flag": True, "none": None},
    }
    texts = {
        "notes.md": "# Notes\n\nA *plain* text with <script>alert(1)</script> in it.\n" + "word " * 100 + "\n",
        "config.json": json.dumps(config),
        "results/table.csv": 'name,score,note\n"Doe, Jane",0.91,"said ""yes"""\nJim,12,\n' + "row,1.5,x\n" * 1500,
        "results/deep/train.log": BIG_LINE * 60_000,
        "results/step-9.txt": "9",
        "results/step-10.txt": "10",
        "report.html": EVIL,
        "drawing.svg": SVG,
        "empty.txt": "",
    }  # fmt: skip
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "picture.png").write_bytes(png(320, 160))
    (folder / "paper.pdf").write_bytes(PDF)
    (folder / "model.pt").write_bytes(bytes(range(256)) * 40)
    (folder / "strange").write_bytes(b"\0\1\2" * 100)
    with wave.open(str(folder / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(
            struct.pack("<8000h", *(int(8000 * ((i // 20) % 2)) for i in range(8000)))
        )


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A runyard with a run that saved files of every kind."""
    chromium()
    if not (CHECKOUT / "clients/web/dist/index.html").exists():
        pytest.skip("the web application is not built: make setup")
    folder = tmp_path_factory.mktemp("files")
    make_files(folder / "data")
    with Yard(tmp_path_factory.mktemp("yard")) as yard:
        code, output = scripts.run(SAVE, folder, yard.environment(folder / "runyard"))
        assert code == 0, output
        yield yard


async def look(page: Page, name: str) -> None:
    """Keeps what is seen, light and dark."""
    OUT.mkdir(parents=True, exist_ok=True)
    for theme in ("light", "dark"):
        await page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        await page.screenshot(path=OUT / f"files-{name}-{theme}.png", animations="disabled")


@asynccontextmanager
async def open_page() -> AsyncIterator[Page]:
    """A page in a browser; an error in it, or a dialogue that a file opened, fails the test."""
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = await browser.new_page(viewport=VIEW)  # type: ignore[arg-type]  # a plain dict will do
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"a dialogue: {dialog.message}"))
        yield page
        assert not complaints
        await browser.close()


async def show(page: Page, yard: Yard, name: str) -> None:
    """Goes to the page of a file."""
    await page.goto(f"{yard.base_url}/nico/files/runs/shown/files?file={name}")
    await expect(page.locator(".file-step-here")).to_have_text(name.rpartition("/")[2])


async def test_files_are_found_by_folder_and_by_search(yard: Yard) -> None:
    """Folders first, numbers in their order; a search goes through all beneath; of a large text the beginning is shown."""
    async with open_page() as page:
        await page.goto(f"{yard.base_url}/nico/files/runs/shown/files")
        rows = page.locator(".file-row")
        await expect(rows.first).to_contain_text("results")
        await expect(rows.first).to_contain_text("4 files")
        await look(page, "list")
        await rows.filter(has_text="results").get_by_role("button").click()
        await expect(rows.nth(1)).to_contain_text("step-9.txt")
        await expect(rows.nth(2)).to_contain_text("step-10.txt")
        await page.get_by_role("searchbox").fill("TRAIN")
        await expect(rows).to_have_count(1)
        await rows.get_by_text("deep/train.log").click()
        await expect(page.get_by_role("note")).to_contain_text("Only the first 1 MiB of 2.75 MiB")
        await expect(page.locator(".file-line").nth(1)).to_contain_text("a line of a large log")
        await look(page, "log")
        await page.go_back()
        await expect(rows).to_have_count(1)
        await page.goto(f"{yard.base_url}/nico/files/runs/shown/files?file=gone")
        await expect(page.get_by_role("heading", name="There is no file gone")).to_be_visible()


async def test_files_of_every_kind_are_shown(yard: Yard) -> None:
    """Text, JSON, tables, pictures, sound, documents; scripts never run."""
    async with open_page() as page:
        await show(page, yard, "notes.md")
        await expect(page.locator(".file-text")).to_contain_text("<script>alert(1)</script>")
        await show(page, yard, "config.json")
        await expect(page.get_by_role("tree")).to_contain_text("a <b>bold</b> model")
        await look(page, "json")
        await page.get_by_role("button", name="Text").click()
        await expect(page.locator(".file-text")).to_contain_text('{"lr": 0.001')
        await show(page, yard, "results/table.csv")
        await expect(page.locator("td", has_text='said "yes"')).to_be_visible()
        await expect(page.get_by_role("note")).to_contain_text(
            "1,000 rows, 3 columns; there are more"
        )
        await look(page, "table")
        for name, width in (("picture.png", 320), ("drawing.svg", 60)):
            await show(page, yard, name)
            await expect(page.locator("figcaption")).to_contain_text(f"{width} × ")
            await look(page, name.partition(".")[0])
        await show(page, yard, "sound.wav")
        await expect(page.locator("audio")).to_have_js_property("duration", 1)
        await look(page, "sound")
        await show(page, yard, "paper.pdf")
        await expect(page.locator("iframe")).to_be_visible()
        await look(page, "paper")
        await show(page, yard, "report.html")
        await expect(page.locator(".file-text")).to_contain_text("<h1>report</h1>")
        title = await page.title()
        await page.get_by_role("button", name="Page").click()
        await expect(page.frame_locator("iframe").get_by_role("heading")).to_have_text("report")
        assert await page.title() == title
        await look(page, "html")
        for name, said in (
            ("model.pt", "not shown here"),
            ("strange", "This is no text"),
            ("empty.txt", "The file is empty"),
        ):
            await show(page, yard, name)
            await expect(page.locator(".file-none")).to_contain_text(said)


async def test_a_file_is_downloaded_and_deleted(yard: Yard) -> None:
    """The download is the file; removal asks first."""
    async with open_page() as page:
        await show(page, yard, "model.pt")
        async with page.expect_download() as waiting:
            await page.get_by_role("button", name="Download").click()
        download = await waiting.value
        assert download.suggested_filename == "model.pt"
        assert Path(await download.path()).read_bytes() == bytes(range(256)) * 40
        await page.get_by_role("button", name="Delete", exact=True).click()
        await look(page, "delete")
        await page.get_by_role("button", name="Cancel").click()
        await page.get_by_role("button", name="Delete", exact=True).click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
        await expect(page.locator(".file-row").first).to_be_visible()
        await expect(page.locator(".file-row", has_text="model.pt")).to_have_count(0)
    reply = yard.call("files.v1.FilesService/ListFiles", {"runPath": RUN, "prefix": "model"})
    assert not reply.get("files")
