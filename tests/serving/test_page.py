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
from axe_playwright_python.sync_playwright import Axe
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
CURVE = [
    CurvePoint(share=share, auc=auc, low=auc - 0.02, high=auc + 0.02)
    for share, auc in ((0.0, 0.7), (0.5, 0.76), (1.0, 0.75))
]

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
    expect(page.locator("#says")).to_contain_text("ms")
    found: list[str] = page.locator("#results .title a").all_inner_texts()
    return found


def _write(page: "playwright.Page") -> None:
    """Say that a real user's history may be written."""
    page.get_by_role("button", name="Write it").click()


def test_an_answer_is_confirmed_undone_and_changes_the_list(browser: "playwright.Browser", start: Start) -> None:
    page = _open(browser, start())
    first = _results(page)
    assert page.locator("#user").input_value() == "u00" and len(first) == 11  # all that is left
    best = first[0]
    page.get_by_role("button", name=f"like {best}", exact=True).click()
    assert "writes to the history of u00" in page.locator("#warn-says").inner_text()
    _write(page)
    expect(page.locator("#history li span").first).to_have_text(best)
    expect(page.locator("#results .title a").first).not_to_have_text(best)
    expect(page.locator("#toast")).to_contain_text(f"Liked: {best}.")
    assert page.evaluate("document.activeElement.dataset.answer") == "like"  # the focus stays where it was
    assert "▲1" in page.locator("#results .moved").all_inner_texts()  # what stood below moved up
    assert best not in _results(page)
    page.locator("#undo").click()
    expect(page.locator("#toast")).to_contain_text(f"Taken back: {best}.")
    expect(page.locator("#history li span").first).not_to_have_text(best)
    page.get_by_role("button", name=f"dislike {_results(page)[1]}", exact=True).click()  # asked once for a user
    expect(page.locator("#toast")).to_contain_text("Disliked:")
    assert page.outside == []


def test_who_only_tries_writes_nothing(browser: "playwright.Browser", start: Start) -> None:
    page = _open(browser, start())
    best = _results(page)[0]
    before = page.locator("#answers").inner_text()
    page.get_by_role("button", name=f"like {best}", exact=True).click()
    page.get_by_role("button", name="Only try it").click()
    expect(page.locator("#history li span").first).to_have_text(best)
    assert page.locator("#tab-described").get_attribute("aria-selected") == "true"
    page.locator("#tab-known").click()
    expect(page.locator("#answers")).to_have_text(before)
    assert best in _results(page)


def test_the_budget(browser: "playwright.Browser", start: Start) -> None:
    page = _open(browser, start())
    _results(page)
    page.locator("#share").fill("0")
    expect(page.locator("#results .badge.llm")).to_have_count(0)
    assert "AUC 0.7000 [0.6800, 0.7200], +0.0000" in page.locator("#budget-says").inner_text()
    page.locator("#share").fill("100")
    page.wait_for_selector("#results .badge.llm", state="attached")
    assert "+0.0500" in page.locator("#budget-says").inner_text()
    assert page.locator("#deadline").get_attribute("max") == "1000"
    page.locator("#results summary").first.click()
    assert "both models" in page.locator("#results dl").first.inner_text()


def test_somebody_described_by_keyboard_alone(browser: "playwright.Browser", start: Start) -> None:
    page = _open(browser, start(), width=390)
    _results(page)
    page.locator("#tab-known").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#says")).to_contain_text("What is popular now")
    page.keyboard.press("Tab")
    page.keyboard.type("A woman rates films. Likes it?")
    assert page.locator("#profile").input_value().startswith("A woman")
    page.locator("#search").focus()
    page.keyboard.type("film 7")
    page.wait_for_selector("#found li button")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#history .liked")
    assert page.locator("#history li span").first.inner_text() == "Film 7"
    assert "Film 7" not in _results(page)
    wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert not wide and page.outside == []


def test_after_three_likes_of_somebody_new_the_list_follows(browser: "playwright.Browser", start: Start) -> None:
    page = _open(browser, start())
    _results(page)
    page.locator("#tab-described").click()
    expect(page.locator("#says")).to_contain_text("What is popular now")
    popular = _results(page)
    for _ in range(3):
        best = page.locator("#results .title a").first.inner_text()
        page.locator("#results [data-answer=like]").first.click()
        expect(page.locator("#results .title a").first).not_to_have_text(best)
    expect(page.locator("#says")).not_to_contain_text("popular")
    assert _results(page)[:5] != [item for item in popular if item not in popular[:3]][:5]


def test_filters_more_search_and_an_items_page(browser: "playwright.Browser", start: Start) -> None:
    page = _open(browser, start())
    page.locator("#tab-described").click()
    expect(page.locator("#results .card")).to_have_count(12)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("#results .card")).to_have_count(24)
    page.locator("#field").select_option("genres")
    expect(page.locator("#results .card")).not_to_have_count(24)
    page.locator("#search").fill("flim 12")
    expect(page.locator("#search-says")).to_contain_text("written alike")
    page.locator("#found a").first.click()
    expect(page.locator("#item-title")).to_have_text("Film 12")
    assert "users" in page.locator("#item-body").inner_text()
    page.keyboard.press("Escape")
    expect(page.locator("#item")).to_be_hidden()
    page.locator("#search").fill("xyzzy")
    expect(page.locator("#search-says")).to_contain_text("None is written alike")
    assert page.outside == []


@pytest.mark.parametrize("width", [1300, 390])
@pytest.mark.parametrize("name", ["index.html", "operators.html", "docs.html"])
def test_nothing_serious_for_accessibility(browser: "playwright.Browser", start: Start, name: str, width: int) -> None:
    page = _open(browser, start() + name, width)
    page.wait_for_load_state("networkidle") if name == "docs.html" else page.wait_for_timeout(600)
    found = Axe().run(page).response["violations"]
    serious = {
        one["id"]: [n["target"] for n in one["nodes"]] for one in found if one["impact"] in ("serious", "critical")
    }
    assert serious == {}
    small = page.evaluate(
        "[...document.querySelectorAll('main button, main input, main select, main summary')]"
        ".filter(e => e.offsetParent)"
        ".filter(e => e.getBoundingClientRect().height < 43.5).map(e => e.outerHTML.slice(0, 80))"
    )
    assert small == [] and not page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_operators(browser: "playwright.Browser", start: Start) -> None:
    address = start()
    page = _open(browser, address)
    _results(page)
    page.get_by_role("link", name="Operators").click()
    page.wait_for_selector("#latency td:nth-child(2)")
    assert "language model" in page.locator("#latency").inner_text()
    expect(page.locator("#experiment-says")).to_have_text("No experiment runs.")
    assert "the run itself" in page.locator("#versions").inner_text()
    assert page.locator(".tile").count() == 9 and "ready" in page.locator("#tiles").inner_text()
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
    page.wait_for_selector("#results .title a")
    assert page.locator("#key-form").is_hidden()
