"""The page in headless Chromium: drawn without complaint, without network, in both themes and at both widths."""

from pathlib import Path

import pytest
from browser import Browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(two_page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(two_page, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def hostile(hostile_page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile-page") / "report.html"
    path.write_text(hostile_page, encoding="utf-8")
    return path


def quiet(browser: Browser) -> None:
    """No console message, and nothing asked for but the page itself and images that it made."""
    assert browser.problems == []
    assert {url.split(":")[0] for url in browser.requests} <= {"file", "data", "blob"}
    assert len([url for url in browser.requests if url.startswith("file:")]) == 1


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 400])
def test_every_chart_is_drawn_and_the_page_does_not_scroll_sideways(
    browser: Browser, page: Path, width: int, dark: bool
) -> None:
    browser.open(page, width=width, dark=dark)
    browser.draw_all()
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    paper = browser.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert paper == ("rgb(19, 21, 25)" if dark else "rgb(255, 255, 255)")
    assert browser.evaluate("document.querySelectorAll('.plot svg .trace, .plot svg .hm').length") > 20
    quiet(browser)


@pytest.mark.parametrize("width", [1280, 400])
def test_hostile_text_stays_text(browser: Browser, hostile: Path, width: int) -> None:
    browser.open(hostile, width=width)
    browser.draw_all()
    assert browser.evaluate("document.querySelectorAll('main script:not([type]), img, iframe').length") == 0
    assert browser.evaluate("document.querySelector('h1').textContent").count("<script>alert(1)</script>") == 1
    heat = "document.querySelector('[data-figure=f-heat-0]').textContent"
    assert "<script>alert" in browser.evaluate(heat)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    quiet(browser)


def test_wide_intervals_fit_into_their_tile(browser: Browser, page: Path) -> None:
    browser.open(page)
    cell = "'<small>216\u202f000–240\u202f000</small>'"
    cells = "document.querySelectorAll('.tile .scroll td:not(:first-child)')"
    assert browser.evaluate(f"{cells}.forEach(td => td.innerHTML = '229\u202f000' + {cell}) || {cells}.length") > 20
    wide = "document.querySelectorAll('.tile, .tile .scroll')"
    assert browser.evaluate(f"[...{wide}].every(box => box.scrollWidth <= box.clientWidth)")


def test_tabs_themes_and_rows_answer_to_the_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.evaluate("document.querySelector('input[name=tail]').focus()")
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", windowsVirtualKeyCode=39)
    browser.wait("!document.getElementById('tail-2').hidden && document.getElementById('tail-1').hidden")
    browser.wait("document.querySelector('#tail-2 .plot svg') !== null")
    colour = "getComputedStyle(document.querySelector('#tail-2 .plot .xtick text')).fill"
    light = browser.evaluate(colour)
    browser.evaluate("document.getElementById('theme').click()")
    browser.wait(f"document.documentElement.dataset.theme === 'dark' && {colour} !== '{light}'")
    browser.evaluate("document.querySelector('.life summary').click()")
    assert browser.evaluate("document.querySelector('.life[open] dl').innerText.includes('E2E')")
    quiet(browser)


def test_the_rows_behind_a_chart_come_out_as_csv(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.evaluate(
        "window.saved = null; URL.createObjectURL = blob => { blob.text().then(t => window.saved = t); return '#'; };"
        "document.querySelector('[data-csv=d-tail-ttft_s]').click()"
    )
    browser.wait("window.saved !== null")
    assert browser.evaluate("window.saved").startswith("run,level,ttft_s,low,high,step_time_scale\n")
    quiet(browser)


def test_text_has_enough_contrast(browser: Browser, page: Path) -> None:
    for dark in (False, True):
        browser.open(page, dark=dark)
        ratio = """((a, b) => { const rgb = n => { const c = document.createElement('i'); c.style.color = `var(${n})`;
            document.body.append(c); return getComputedStyle(c).color.match(/\\d+/g).map(Number); };
            const l = n => { const [r, g, b] = rgb(n).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 :
            ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
            const [x, y] = [l(a), l(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); })"""
        for name in ("--ink", "--muted", "--miss"):
            assert browser.evaluate(f"{ratio}('{name}', '--paper')") >= 4.5


def test_the_text_is_painted_within_a_second(browser: Browser, page: Path) -> None:
    browser.open(page)
    paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    browser.wait(f"{paint} !== undefined")
    assert browser.evaluate(paint) < 3_000  # 1 s is the aim; a shared machine gets three


def test_it_prints_on_a4(browser: Browser, page: Path) -> None:
    browser.open(page)
    printed = browser.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, preferCSSPageSize=True)
    assert len(printed["data"]) > 100_000
    quiet(browser)
