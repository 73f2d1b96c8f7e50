"""The pages in a real browser: clicks, keys, two widths, nothing from outside."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from playwright import sync_api as playwright
from spoken_for import SpokenFor

from corella.llm.prefix import SharedPrompt
from corella.serving.engine.asking import Answer
from corella.serving.http.api import create_app
from corella.serving.http.keys import Key, KeyRing, _hash
from corella.serving.http.schema_operators import CurvePoint
from corella.serving.service import Service

expect = playwright.expect
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
CURVE = [CurvePoint(share=share, auc=auc) for share, auc in ((0.0, 0.7), (0.5, 0.76), (1.0, 0.75))]

Start = Callable[..., str]


@pytest.fixture
def start(make_service: Callable[..., Service], tmp_path: Path) -> Iterator[Start]:
    """A function: serve the pages; returns the address."""
    servers = []

    def run(keys: list[Key] | None = None) -> str:
        def answer(prompt: SharedPrompt) -> Answer:
            return Answer(np.linspace(3, -3, len(prompt.branches), dtype=np.float32))

        path = tmp_path / "keys.json"
        if keys:
            path.touch(0o600)
            path.write_text(json.dumps([asdict(key) for key in keys]))
        ring = KeyRing(path if keys else None)
        engine = SpokenFor()
        engine.answer = answer
        app = create_app(make_service(engine, overload_ms=60_000), ring, CURVE)
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        servers.append((server, thread))
        port: int = server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/"

    yield run
    for server, thread in servers:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def browser() -> Iterator["playwright.Browser"]:
    with playwright.sync_playwright() as p:
        launched = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


def _open(browser: "playwright.Browser", address: str, width: int = 1200) -> "playwright.Page":
    """The page, which must not ask anybody else for anything, nor complain."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(15_000)
    page.outside = []
    page.on("request", lambda r: None if r.url.startswith((address, "data:")) else page.outside.append(r.url))
    page.on("pageerror", lambda e: page.outside.append(str(e)))
    page.goto(address)
    return page


def _results(page: "playwright.Page") -> list[str]:
    expect(page.locator("#says")).to_contain_text("ms:")
    found: list[str] = page.locator("#results td.item").all_inner_texts()
    return found


def test_the_budget_and_an_answer_change_the_list(browser: "playwright.Browser", start: Start) -> None:
    page = _open(browser, start())
    first = _results(page)
    assert page.locator("#user").input_value() == "u00" and 0 < len(first) <= 12
    page.locator("#share").fill("0")
    expect(page.locator("#results .badge.llm")).to_have_count(0)
    assert set(page.locator("#results .badge").all_inner_texts()) == {"conventional"}
    assert "AUC 0.7000, +0.0000" in page.locator("#budget-says").inner_text()
    page.locator("#share").fill("100")
    page.wait_for_selector("#results .badge.llm")
    assert set(page.locator("#results .badge").all_inner_texts()) == {"both models"}
    assert "+0.0500" in page.locator("#budget-says").inner_text()
    best = page.locator("#results td.item").first.inner_text()
    page.get_by_role("button", name=f"like {best}", exact=True).click()
    expect(page.locator("#history li span").first).to_have_text(best)
    expect(page.locator("#results td.item").first).not_to_have_text(best)
    assert "▲1" in page.locator("#results .moved").all_inner_texts()  # what stood below moved up
    assert best not in _results(page)
    assert page.outside == []


def test_somebody_described_by_keyboard_alone(browser: "playwright.Browser", start: Start) -> None:
    page = _open(browser, start(), width=390)
    _results(page)
    page.locator("#tab-described").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("A woman rates films. Likes it?")
    assert page.locator("#profile").input_value().startswith("A woman")
    page.keyboard.press("Tab")
    page.keyboard.type("film 7")
    page.wait_for_selector("#found li button")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#history .liked")
    assert page.locator("#history li").inner_text().startswith("Film 7")
    assert "Film 7" not in _results(page)
    wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert not wide and page.outside == []


def test_chosen_items_are_scored(browser: "playwright.Browser", start: Start) -> None:
    page = _open(browser, start())
    _results(page)
    for words in ("film 12", "film 25"):
        page.locator("#search").fill(words)
        page.get_by_role("button", name=f"choose {words.title()}", exact=True).click()
    page.get_by_role("button", name="Score 2 chosen").click()
    expect(page.locator("#results td.item")).to_have_count(2)
    assert set(_results(page)) == {"Film 12", "Film 25"}


def test_operators(browser: "playwright.Browser", start: Start) -> None:
    address = start()
    page = _open(browser, address)
    _results(page)
    page.get_by_role("link", name="Operators").click()
    page.wait_for_selector("#latency td:nth-child(2)")
    assert "with the language model" in page.locator("#latency").inner_text()
    assert page.locator(".tile").count() == 8 and "ready" in page.locator("#tiles").inner_text()
    assert page.outside == []


def test_the_api_is_described_without_outside_scripts(browser: "playwright.Browser", start: Start) -> None:
    page = _open(browser, start())
    page.get_by_role("link", name="API").click()
    expect(page.locator("#paths h2").first).to_have_text("POST /v1/score")
    page.get_by_role("link", name="ScoreRequest").click()
    assert page.url.endswith("#ScoreRequest")
    assert page.locator("#ScoreRequest + p").inner_text() == "Items to score." and page.outside == []


def test_a_key_is_asked_for(browser: "playwright.Browser", start: Start) -> None:
    page = _open(browser, start([Key("me", "write", _hash("secret"))]))
    page.wait_for_selector("#key-form:not([hidden])")
    page.locator("#key").fill("secret")
    page.keyboard.press("Enter")
    page.wait_for_selector("#results td.item")
    assert page.locator("#key-form").is_hidden()
