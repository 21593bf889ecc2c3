"""
Makes the pictures of docs/console.md; run it after the page has changed, and look at them.

An app of its own answers a batch in a second or so; a part of it fails.
"""

import asyncio
import json
import subprocess
import sys
import zlib
from pathlib import Path
from shutil import which

from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

from asgi_batch import BatchMiddleware, Limits

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PORT = 8765
ADDRESS = f"http://127.0.0.1:{PORT}/batch"


async def users(scope, receive, send):
    """
    Answer slowly, and now and then with an error.
    """
    number = zlib.crc32(scope["raw_path"])
    await asyncio.sleep(0.02 + number % 7 / 100)
    status, body = 200, {"id": number % 1000, "name": "Ada", "price": 1.0}
    if number % 13 == 0:
        status, body = 422, {"detail": "A user needs a name."}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


app = BatchMiddleware(users, console=True, limits=Limits(concurrency=5))


def opened(browser: Browser, scheme: str, width: int, height: int) -> Page:
    """
    The page, with a batch that was sent for later.
    """
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    page.goto(ADDRESS)
    names = [
        json.dumps({"id": f"user-{n}", "method": "GET", "path": f"/users/{n}"}) for n in range(150)
    ]
    page.get_by_label("Operations").fill('{"operations": [\n  ' + ",\n  ".join(names) + "\n]}\n")
    page.get_by_label("Operations").evaluate("(element) => element.scrollTo(0, 0)")
    page.get_by_role("button", name="Send for later").click()
    return page


def photograph(browser: Browser) -> None:
    """
    Three pictures: finished, half way, and narrow.
    """
    page = opened(browser, "light", 960, 1500)
    expect(page.locator("#state")).to_have_text("completed", timeout=30_000)
    page.get_by_label("Failed", exact=True).check()
    page.screenshot(path=DOCS / "console-light.png")
    page = opened(browser, "dark", 640, 1060)
    expect(page.locator("#news")).to_have_text("75 percent", timeout=30_000)
    page.locator("#batch").evaluate("(element) => element.scrollIntoView()")
    page.screenshot(path=DOCS / "console-dark.png")
    page = opened(browser, "light", 320, 1060)
    expect(page.locator("#state")).to_have_text("completed", timeout=30_000)
    page.get_by_label("Failed", exact=True).check()
    page.locator("#rows summary").first.click()
    page.locator("#results-title").evaluate("(element) => element.scrollIntoView()")
    page.screenshot(path=DOCS / "console-narrow.png")


def main() -> None:
    """
    Serve this file, and take the pictures.
    """
    command = [sys.executable, "-m", "uvicorn", "--port", str(PORT), "screenshots:app"]
    with subprocess.Popen([*command, "--app-dir", str(Path(__file__).parent)]) as server:
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=which("chromium"), args=["--no-sandbox"]
                )
                page = browser.new_page()
                for _ in range(100):
                    if server.poll() is None and is_there(page):
                        break
                photograph(browser)
                browser.close()
        finally:
            server.terminate()


def is_there(page: Page) -> bool:
    """
    Whether the server listens yet.
    """
    try:
        page.goto(ADDRESS)
    except Error:
        page.wait_for_timeout(100)
        return False
    return True


if __name__ == "__main__":
    main()
