"""The live page in a real browser, light and dark, with a vehicle that is driven; and who else is refused."""

import http.client
import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.observe.drives import Driven, driven, free_port
from tests.processes import PATIENCE_S, run, wait_for

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 30e3
pytestmark = pytest.mark.timeout(120)  # five processes and a browser start for them


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Driven, int]]:
    port = free_port()
    with driven(tmp_path_factory.mktemp("p"), "--page", f"127.0.0.1:{port}") as running:
        wait_for(lambda: answers(port), 60.0)
        yield running, port


def answers(port: int) -> bool:
    try:
        return get(port, "/")[0] == 200
    except OSError:
        return False


def get(port: int, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()
    finally:
        connection.close()


def test_the_page_shows_a_driven_vehicle_in_light_and_dark(served: tuple[Driven, int]) -> None:
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no browser at {CHROMIUM}")
    expect = api.expect
    running, port = served
    over = threading.Event()

    def drive_on() -> None:
        while not over.is_set():
            running.drive(6.0)

    driving = threading.Thread(target=drive_on)
    driving.start()
    complaints: list[str] = []
    grounds = {}
    try:
        with api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
            for scheme in ("light", "dark"):
                page = browser.new_page(color_scheme=scheme)
                page.on("console", lambda message: complaints.append(message.text))
                page.on("pageerror", lambda error: complaints.append(str(error)))
                page.goto(f"http://127.0.0.1:{port}/")
                # Locators, since the page's own policy forbids Chromium to evaluate a text again and again.
                expect(page.locator("#mode")).to_contain_text(":", timeout=PATIENCE_MS)
                expect(page.locator("#deadline")).to_have_text(re.compile(r"^[0-9.]+ m?s$"), timeout=PATIENCE_MS)
                expect(page.locator("#exits meter").first).to_be_attached(timeout=PATIENCE_MS)
                expect(page.locator("#energy")).not_to_have_text("–", timeout=PATIENCE_MS)
                expect(page.locator("#link-state")).to_have_text("ready", timeout=PATIENCE_MS)
                expect(page.locator("#about")).to_contain_text("vehicle demo", timeout=PATIENCE_MS)
                for canvas in ("top", "deadlines", "energies", "devices"):
                    drawn = "[...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].some((v) => v)"
                    script = f"(() => {{ const c = document.getElementById('{canvas}'); return {drawn}; }})()"
                    wait_for(partial(page.evaluate, script))
                grounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
                page.close()
            browser.close()
    finally:
        over.set()
        driving.join()
    assert complaints == []
    assert grounds["light"] != grounds["dark"]


def test_the_policy_allows_nothing_but_its_own_files(served: tuple[Driven, int]) -> None:
    status, headers, body = get(served[1], "/")
    policy = headers["content-security-policy"]
    assert status == 200
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*src=)| style=| on\w+=", body)
    assert get(served[1], "/page.js")[0] == get(served[1], "/page.css")[0] == 200
    assert get(served[1], "/../server.py")[0] == 404


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
@pytest.mark.parametrize("path", ["/", "/live"])
def test_foreign_names_and_pages_are_refused(served: tuple[Driven, int], path: str, headers: dict[str, str]) -> None:
    assert get(served[1], path, **headers)[0] == 403


def test_an_address_open_to_others_is_refused() -> None:
    ended = run("page", "0.0.0.0:8099", timeout_s=60.0)
    assert ended.returncode == 78
    assert "bind to 127.0.0.1" in ended.stderr
