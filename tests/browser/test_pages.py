"""The pages in a real browser: what people click, what they then see, and who can use them."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from detal.loop.study_report import write_study_report
from detal.review import ReviewServer, open_session
from detal.runs.run_report import write_run_report
from tests.browser.chromium import CHROMIUM, axe_source, open_browser
from tests.loop.test_study_report import write_study
from tests.runs.run_folders import write_run

MISSING = [
    *(["/usr/bin/chromium"] if not CHROMIUM.exists() else []),
    *(
        name
        for name in ("playwright", "axe_playwright_python")
        if importlib.util.find_spec(name) is None
    ),
]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"browser tests need {', '.join(MISSING)}"),
]

EVIL = "<img src=x onerror=window.hurt=1></script><script>window.hurt=1</script>"
LOOKS = [
    pytest.param({"width": 1360, "height": 900}, "light", id="desktop-light"),
    pytest.param({"width": 1360, "height": 900}, "dark", id="desktop-dark"),
    pytest.param({"width": 390, "height": 844}, "light", id="phone-light"),
    pytest.param({"width": 390, "height": 844}, "dark", id="phone-dark"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """A new page; whatever it logs or asks of the network fails the test."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    page = context.new_page()
    page.set_default_timeout(20_000)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    yield page
    assert said == []
    context.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    run = write_run(folder / "run", count=12, strategy="curve_greedy")
    return write_run_report(run).as_uri()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_study_report(write_study(tmp_path_factory.mktemp("study"))).as_uri()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ReviewServer]:
    run = write_run(tmp_path / "run")
    with open_session(run) as session, ReviewServer(session) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def wait_until(tab: Any, expression: str) -> None:
    """Wait for JavaScript to be true; the page's policy keeps playwright's own waiting out."""
    for _ in range(200):
        if tab.evaluate(expression):
            return
        tab.wait_for_timeout(50)
    pytest.fail(f"never true: {expression}")


FOCUSED = "document.activeElement.getAttribute('aria-label')"


def names(tab: Any) -> list[str]:
    """File names on the visible cards, in the order shown."""
    found: list[str] = tab.locator("#gallery > li:visible .name").all_inner_texts()
    return found


def test_filter_sort_and_threshold(tab: Any, report: str) -> None:
    tab.goto(report)
    tab.wait_for_selector("#gallery img")
    assert tab.locator("#counted").inner_text() == "12 of 12 images"
    tab.select_option("#class", label="owl (4)")
    assert names(tab) == ["0001.png", "0004.png", "0007.png", "0010.png"]
    assert tab.locator("#counted").inner_text() == "4 of 12 images"
    tab.fill("#search", "0007")
    assert names(tab) == ["0007.png"]
    tab.click("text=Reset")
    wait_until(tab, "document.getElementById('counted').textContent === '12 of 12 images'")
    assert len(names(tab)) == 12
    tab.select_option("#sort", "low")
    assert names(tab)[0] == "0010.png"  # the last one has no score
    tab.fill("#least", "1.9")
    assert names(tab) == ["0001.png", "0000.png"]
    tab.click("text=Reset")
    wait_until(tab, "document.getElementById('counted').textContent === '12 of 12 images'")
    first = tab.locator("#gallery > li").first
    assert first.locator("svg.boxes rect:not(.halo)").count() == 2
    tab.locator("#threshold").fill("0.6")
    wait_until(
        tab, "document.querySelectorAll('#gallery > li:first-child rect:not(.halo)').length === 1"
    )
    assert tab.locator("#threshold-shown").inner_text() == "0.60"
    assert first.locator(".chips").inner_text().strip() == "1 cat"
    tab.uncheck("#show-boxes")
    assert not first.locator("svg.boxes").is_visible()


def test_keyboard_and_large_view(tab: Any, report: str) -> None:
    tab.goto(report)
    tab.wait_for_selector("#gallery img")
    tab.locator("#gallery .pic").first.focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    assert tab.locator("#dialog-title").inner_text() == "#2 0001.png"
    assert tab.locator("#dialog-why").inner_text() == "reason 1"
    assert tab.locator("#dialog-boxes li").all_inner_texts() == ["owl\n0.80"]
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#dialog-title").inner_text() == "#3 0002.png"
    tab.keyboard.press("Escape")
    wait_until(tab, f"{FOCUSED} === 'Open image 3, 0002.png'")
    assert float(tab.locator(".marker").get_attribute("cx")) > 0
    tab.locator("svg.map").click(position={"x": 10, "y": 10})
    wait_until(tab, f"({FOCUSED} || '').includes('Open image')")


def test_only_cards_near_the_window_are_laid_out(tab: Any, tmp_path: Path) -> None:
    tab.goto(write_run_report(write_run(tmp_path / "run", count=150)).as_uri())
    tab.wait_for_selector("#gallery img")
    height = tab.evaluate("document.documentElement.scrollHeight")
    assert len(names(tab)) < 60
    tab.locator("#gallery .pic").first.focus()
    tab.keyboard.press("End")
    wait_until(tab, f"{FOCUSED} === 'Open image 150, 0149.png'")
    tab.wait_for_selector("#gallery > li:has-text('0149.png') img")
    last = tab.locator("#gallery > li", has_text="0149.png")
    assert (last.get_attribute("aria-posinset"), last.get_attribute("aria-setsize")) == (
        "150",
        "150",
    )
    assert "0000.png" not in names(tab)
    assert tab.evaluate("document.documentElement.scrollHeight") == height
    tab.keyboard.press("Home")
    wait_until(tab, f"{FOCUSED} === 'Open image 1, 0000.png'")
    tab.evaluate("window.scrollTo({top: document.body.scrollHeight, behavior: 'instant'})")
    wait_until(
        tab,
        "document.querySelectorAll('#gallery > li:not([hidden]) [tabindex=\"0\"]').length === 1",
    )


def test_nothing_moves_and_nothing_is_asked_for(tab: Any, report: str) -> None:
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(report)
    shift = tab.evaluate(
        """() => new Promise((resolve) => {
          let sum = 0;
          new PerformanceObserver((list) => { for (const e of list.getEntries()) sum += e.value; })
            .observe({ type: "layout-shift", buffered: true });
          window.scrollTo(0, document.body.scrollHeight);
          setTimeout(() => resolve(sum), 600);
        })"""
    )
    assert shift == 0
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_names_do_no_harm(tab: Any, tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run",
        count=3,
        class_names=(EVIL, "b" + EVIL, "c"),
        names=[f"{i}{EVIL.replace('/', '|')}.png" for i in range(6)],
        reasons=[EVIL] * 6,
    )
    tab.goto(write_run_report(run).as_uri())
    tab.wait_for_selector("#gallery img")
    tab.locator("#gallery .pic").first.click()
    assert EVIL in tab.locator("#dialog-boxes").inner_text()
    assert tab.locator("#dialog-why").inner_text() == EVIL
    assert tab.evaluate("window.hurt") is None
    assert tab.locator("img[src=x]").count() == 0


def test_review(tab: Any, server: ReviewServer, tmp_path: Path) -> None:
    tab.goto(server.url)
    tab.wait_for_selector("#gallery img")
    assert len(names(tab)) == 6
    first = tab.locator("#gallery .pic").first
    first.focus()
    tab.keyboard.press("a")
    tab.wait_for_selector("#gallery > li.accepted")
    wait_until(tab, f"{FOCUSED} === 'Open image 2, 0001.png'")
    tab.keyboard.press("n")
    tab.wait_for_selector("text=next 1 comes instead")
    assert names(tab)[:3] == ["0000.png", "0001.png", "0006.png"]
    card = tab.locator("#gallery > li", has_text="0003.png")
    card.get_by_role("button", name="Reject image 4").click()
    tab.wait_for_selector("#gallery > li.rejected:has-text('0003.png')")
    assert tab.locator("#summary").inner_text() == "3 of 7 decided, 5 kept for 5.0 of 6 images"
    tab.select_option("#status", "rejected")
    assert names(tab) == ["0001.png", "0003.png"]
    tab.select_option("#status", "")
    card.get_by_role("button", name="Reject image 4").click()  # takes it back
    tab.wait_for_selector("text=#4 taken back")
    tab.reload()
    tab.wait_for_selector("#gallery > li.accepted")
    assert tab.locator("#summary").inner_text() == "2 of 7 decided, 6 kept for 6.0 of 6 images"
    tab.locator("#gallery .pic").nth(3).click()
    tab.locator("dialog").get_by_role("button", name="Reject").click()
    tab.wait_for_selector("dialog .reject[aria-pressed=true]")
    tab.click("#close")
    tab.click("#export")
    tab.wait_for_selector("text=Wrote 5 images to")
    rows = (tmp_path / "run-reviewed" / "selection.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows[1:]] == [f"id000{i}" for i in (0, 3, 4, 5, 6)]


def test_study(tab: Any, study: str) -> None:
    tab.goto(study)
    assert tab.locator("figure.curves:visible").count() == 1
    tab.select_option("#axis", "images")
    shown = tab.locator("figure.curves:visible svg")
    assert "labelled images" in shown.get_attribute("aria-label")
    lines = shown.locator("g.line:visible")
    assert lines.count() == 2
    tab.locator("#series input").first.uncheck()
    assert lines.count() == 1


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
@pytest.mark.parametrize("page", ["report", "study", "review"])
def test_everybody_can_use_it(
    browser: Any, request: pytest.FixtureRequest, page: str, size: dict[str, int], scheme: str
) -> None:
    """axe-core finds nothing, and nothing is wider than the window."""
    made = request.getfixturevalue("server" if page == "review" else page)
    address = made.url if page == "review" else made
    # axe is no script of the page: here alone the policy is set aside.
    context = browser.new_context(viewport=size, color_scheme=scheme, bypass_csp=True)
    tab = context.new_page()
    tab.goto(address)
    assert tab.evaluate("document.documentElement.scrollWidth") <= size["width"]
    tab.evaluate(axe_source())
    if page != "study":
        found = tab.evaluate("axe.run()")["violations"]
        tab.locator("#gallery .pic").first.click()
        found += tab.evaluate("axe.run('dialog')")["violations"]
    else:
        found = tab.evaluate("axe.run()")["violations"]
    assert [(v["id"], v["impact"], v["nodes"][0]["html"]) for v in found] == []
    context.close()
