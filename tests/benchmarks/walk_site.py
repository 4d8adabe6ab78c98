"""A walk through the site in headless Chromium, from the disk and without a network.

    python tests/benchmarks/walk_site.py build/book build/walk          (or: make walk)

It needs the program chromium (on Debian: apt-get install chromium), and websocket-client, which
JupyterLab brings. It opens every page in the
window of a phone and of a laptop, follows the arrows from the front page to the end and back,
searches for a word, switches to the dark colours, and measures parentheses in a formula. It
prints what it found, one line a step, and exits with 1 if anything is wrong: a console error, a
request that leaves the machine, a page wider than the phone, a broken arrow, a search without
results, or parentheses that do not grow with their content. The second folder gets screenshots
to look at.
"""

import sys
import time
from pathlib import Path

from browser import LAPTOP, wait, window

PHONE = (360, 740)
SHOWN = (
    "index", "notebooks/01_sparse_signals", "notebooks/10_csp", "README", "glossary",
    "reference/recovery",
)  # fmt: skip


def every_page(browser, site, wrong):
    """Open all pages, small and large."""
    pages = sorted(site.rglob("*.html"))
    for page in pages:
        name = page.relative_to(site).as_posix()
        browser.size(*PHONE)
        browser.open(page.as_uri())
        width = browser.run("document.documentElement.scrollWidth")
        if width > PHONE[0]:
            wrong.append(f"{name}: {width} pixels wide on a phone of {PHONE[0]}")
        wrong += [f"{name}: {fault}" for fault in browser.faults()]
        unseen = browser.run(
            "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        )
        if unseen:
            wrong.append(f"{name}: {unseen} pictures are not shown")
    print(f"{len(pages)} pages opened from the disk")


def arrows(browser, site, wrong):
    """Follow the arrows from the front page to the end, and back."""
    browser.size(*LAPTOP)
    browser.open((site / "index.html").as_uri())
    ways = {}
    for arrow in ("a.right-next", "a.left-prev"):
        seen = [browser.run("location.pathname")]
        while target := browser.run(f"document.querySelector('{arrow}')?.href"):
            browser.run(f"document.querySelector('{arrow}').click()")
            browser.loaded(target)
            seen.append(browser.run("location.pathname"))
        ways[arrow] = seen
    there, back = ways.values()
    if there != back[::-1]:
        wrong.append(f"arrows: {len(there)} pages forwards, {len(back)} back")
    notebooks = {str(page) for page in (site / "notebooks").glob("*.html")}
    if missed := notebooks - set(there):
        wrong.append(f"arrows: they miss {', '.join(sorted(missed))}")
    print(f"arrows: {len(there)} pages forwards and back")


def search(browser, site, out, wrong):
    """Search as a reader does: in the field at the top, then the first result."""
    browser.open((site / "index.html").as_uri())
    browser.run("document.querySelector('.search-button, .search-button__button').click()")
    browser.run(
        "(() => { const f = document.querySelector('dialog form.bd-search, form.bd-search');"
        "f.querySelector('input').value = 'duality'; f.requestSubmit ? f.requestSubmit() :"
        " f.submit(); })()"
    )
    browser.loaded((site / "search.html").as_uri())
    results = "document.querySelectorAll('#search-results li a')"
    wait(lambda: browser.run(f"{results}.length"), "the search has results")
    time.sleep(2)
    found = browser.run(f"{results}.length")
    browser.picture(out / "search.png")
    wrong += [f"search: {fault}" for fault in browser.faults()]
    target = browser.run(f"{results}[0].href")
    browser.run(f"{results}[0].click()")
    browser.loaded(target)
    if "duality" not in browser.run("document.body.innerText").lower():
        wrong.append(f"search: the first result {target} does not have the word")
    print(f"search: {found} results for 'duality', the first is {Path(target).name}")


def dark(browser, site, out, wrong):
    """Switch the colours as a reader does, and see that the next page keeps them."""
    browser.open((site / "notebooks" / "01_sparse_signals.html").as_uri())
    theme = "document.documentElement.dataset.theme"
    browser.run("document.querySelector('.theme-change-button[data-mode=dark]').click()")
    light = (
        "getComputedStyle(document.body).{}.match(/[0-9.]+/g).slice(0, 3)"
        ".reduce((sum, value) => sum + Number(value), 0)"
    )
    paper, ink = (browser.run(light.format(c)) for c in ("backgroundColor", "color"))
    if browser.run(theme) != "dark" or paper > ink:
        wrong.append(f"dark: paper {paper} is lighter than ink {ink}")
    for name in SHOWN:
        browser.open((site / f"{name}.html").as_uri())
        browser.picture(out / "dark" / f"{Path(name).name}.png")
    if browser.run(theme) != "dark":
        wrong.append("dark: another page forgets it")
    print(f"dark: paper {paper}, ink {ink} of 765")


def parentheses(browser, site, wrong):
    """Measure how much taller the parentheses around a fraction are than plain ones."""
    browser.open((site / "notebooks" / "10_csp.html").as_uri())
    heights = browser.run(
        "(() => { const h = s => [...document.querySelectorAll(s)].filter("
        "m => m.textContent == '(').map(m => m.getBoundingClientRect().height);"
        "return [h('mo[stretchy=true]'), h('mo[stretchy=false]')] })()"
    )
    ratio = max(heights[0]) / min(heights[1])
    if ratio < 1.5:
        wrong.append(f"parentheses: around a fraction only {ratio:.2f} times as tall")
    print(f"parentheses around a fraction: {ratio:.2f} times as tall as plain ones")


def pictures(browser, site, out):
    for width, folder in ((LAPTOP, "laptop"), (PHONE, "phone")):
        browser.size(*width)
        for name in SHOWN:
            browser.open((site / f"{name}.html").as_uri())
            browser.picture(out / folder / f"{Path(name).name}.png")
            if folder == "laptop":
                browser.picture(out / "whole" / f"{Path(name).name}.png", whole=True)


def main():
    site, out = (Path(argument).resolve() for argument in sys.argv[1:3])
    wrong = []
    with window() as browser:
        every_page(browser, site, wrong)
        pictures(browser, site, out)
        browser.size(*LAPTOP)
        arrows(browser, site, wrong)
        search(browser, site, out, wrong)
        parentheses(browser, site, wrong)
        dark(browser, site, out, wrong)
    print("\n".join(wrong) or f"nothing wrong; screenshots in {out}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
