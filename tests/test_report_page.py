"""The report in headless Chromium: filters, sorting, slider, keyboard, faces behind cells, access, size."""

import re

import pytest

from browsing import accessibility_findings, open_page, overflow
from config import EMOTIONS
from ferlib.report.plots import PLOTS
from ferlib.runtime.runs import Run
from report_generator import build_report
from report_outputs import (
    DATASET,
    METHODS_SHOWN,
    NASTY,
    face,
    write_cache,
    write_explanations,
    write_history,
    write_picture,
    write_predictions,
    write_results,
    write_scores,
)

MODELS = ("aaa", "bbb", "ccc", "ddd")
FACES = 20


def write_run(run: Run, accuracy: float, side: int) -> None:
    """A run that recognises every other face, surer of each next one."""
    write_history(run)
    write_results(run, accuracy, macro_f1=1 - accuracy)
    write_predictions(run)
    for kind in PLOTS:
        write_picture(run.plot(kind), side=300)
    faces = [
        face(
            index,
            f"{index}.png",
            true=EMOTIONS[index % 7],
            predicted=EMOTIONS[(index + index % 2) % 7],
            probability=0.2 + 0.04 * index,
        )
        for index in range(FACES)
    ]
    for method in METHODS_SHOWN:
        write_explanations(run, method, faces, side)
        for index in range(FACES):
            write_picture(run.explanations(method) / f"{index}.png")


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    """The page on 4 models × 20 faces × 6 methods; two models have fine maps of noise, the hardest to compress."""
    outputs = tmp_path_factory.mktemp("report")
    write_cache(outputs)
    for number, model in enumerate(MODELS):
        write_run(Run(model, DATASET, outputs_dir=outputs), 0.8 - 0.05 * number, side=224 if number < 2 else 44)
    write_scores(Run(MODELS[0], DATASET, outputs_dir=outputs))
    return build_report(outputs, DATASET)


@pytest.fixture
def visit(browser, page_path):
    """The page, freshly opened; in the end it must not have complained, nor asked anyone for anything."""
    with open_page(browser, page_path.as_uri()) as visit:
        yield visit
        assert visit.errors == []
        assert visit.requests == [page_path.as_uri()]


def visible(page, selector: str) -> int:
    return page.locator(f"{selector}:visible").count()


def test_size(page_path):
    assert page_path.stat().st_size < 15e6


def test_sorting(visit):
    table = visit.page.locator("table.sortable").first
    rows = lambda: [text.split("\n")[0] for text in table.locator("tbody th").all_inner_texts()]  # noqa: E731
    assert rows() == list(MODELS)
    heading = table.get_by_role("button", name="Macro F1")
    heading.click()
    assert rows() == list(reversed(MODELS))
    assert heading.locator("..").get_attribute("aria-sort") == "descending"
    heading.click()
    assert rows() == list(MODELS)
    assert table.locator("[aria-sort]").count() == 1
    table.get_by_role("button", name="Model").press("Enter")
    assert rows() == list(MODELS)


def test_filters(visit):
    page = visit.page
    count = page.locator(".gallery output")
    assert count.inner_text() == "20 faces"
    page.locator("select[name=verdict]").select_option("wrong")
    assert count.inner_text() == "10 faces"
    page.locator("select[name=true]").select_option("Disgust")  # faces 1, 8 and 15, of which 8 is right
    assert count.inner_text() == "2 faces"
    assert visible(page, ".filmstrip li") == 2
    page.locator("select[name=confidence]").select_option("0.8 1")  # 0.2 + 0.04 · 15
    assert count.inner_text() == "1 face"
    assert page.locator(".card.current header h3").inner_text() == "Disgust"
    page.locator("select[name=predicted]").select_option("Angry")
    assert count.inner_text() == "0 faces"
    assert page.locator(".none-left").is_visible()
    assert visible(page, ".card") == 0


def test_methods_and_models(visit):
    page = visit.page
    assert visible(page, ".tile") == len(METHODS_SHOWN) * len(MODELS)
    page.locator(".chips label", has_text="SHAP").click()
    assert visible(page, ".tile") == (len(METHODS_SHOWN) - 1) * len(MODELS)
    page.locator("select[name=model]").select_option("bbb")
    assert visible(page, ".answer") == 1
    assert visible(page, ".tile[data-method=shap]") == 0
    assert visible(page, ".tile[data-method=lime]") == 1


def test_one_face_or_all(visit):
    page = visit.page
    assert visible(page, ".card") == 1
    page.get_by_role("button", name="Show all").click()
    assert visible(page, ".card") == FACES
    page.get_by_role("button", name="Show all").click()
    page.locator(".filmstrip a").nth(7).click()
    assert visible(page, ".card") == 1
    assert page.locator(".card:visible header p").inner_text().startswith("test face 7")


def test_slider_blends_map_and_face(visit):
    page = visit.page
    opacity = lambda selector: float(  # noqa: E731
        page.locator(f".card.current {selector}").first.evaluate("it => getComputedStyle(it).opacity")
    )
    slider = page.locator("input[name=blend]")
    slider.fill("0")
    assert (opacity(".under"), opacity(".stack-up img")) == (1, 0)
    slider.fill("100")
    assert (opacity(".under"), opacity(".stack-up img")) == (0, 1)
    slider.press("ArrowLeft")
    assert slider.input_value() == "99"  # the arrows are the slider's while it has the focus
    assert page.locator(".card.current").get_attribute("id").endswith("-face-0")


def test_arrows_move_between_faces(visit):
    page = visit.page
    current = lambda: page.locator(".card.current").get_attribute("id").rsplit("-", 1)[1]  # noqa: E731
    page.locator(".filmstrip").scroll_into_view_if_needed()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert current() == "2"
    page.keyboard.press("ArrowLeft")
    assert current() == "1"
    assert page.evaluate("document.activeElement.classList.contains('card')")
    assert page.locator(".filmstrip [aria-current]").count() == 1
    page.locator("select[name=verdict]").select_option("right")
    page.locator(".card.current").focus()
    page.keyboard.press("ArrowRight")
    assert current() == "2"  # the filtered ones are passed over


def test_faces_behind_a_cell(visit):
    page = visit.page
    matrix = page.locator(".confusion").first
    cell = matrix.get_by_role("button", name="Fear taken for Sad")
    panel = cell.locator("xpath=../div")
    assert not panel.is_visible()
    cell.hover()
    assert panel.is_visible()
    assert panel.locator(".thumb").count() == 8
    assert "20 faces; the 8 most confident" in panel.inner_text()
    assert panel.locator(".thumb").first.evaluate("it => getComputedStyle(it).backgroundImage").startswith('url("data:')
    page.mouse.move(0, 0)
    assert not panel.is_visible()
    first = matrix.get_by_role("button", name="Fear recognised")
    first.focus()
    assert first.locator("xpath=../div").is_visible()
    page.keyboard.press("ArrowRight")  # over the empty cells of Happy and Neutral
    assert panel.is_visible()
    assert not first.locator("xpath=../div").is_visible()
    page.keyboard.press("Escape")
    assert visible(page, ".behind") == 0
    assert matrix.locator("button[tabindex='0']").count() == 1


def test_theme(visit):
    page = visit.page
    paper = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
    light = paper()
    page.locator(".theme label", has_text="Dark").click()
    dark = paper()
    assert dark != light
    page.reload()
    visit.requests.pop()
    assert paper() == dark
    page.locator(".theme label", has_text="Auto").click()
    assert paper() == light


def test_links_lead_to_figures(visit, page_path):
    addresses = visit.page.locator(".tile a, .files a").evaluate_all("all => all.map(it => it.getAttribute('href'))")
    assert len(addresses) == len(MODELS) * (FACES * len(METHODS_SHOWN) + len(PLOTS))
    assert all((page_path.parent / address).exists() for address in addresses)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_access_for_all(browser, page_path, scheme):
    with open_page(browser, page_path.as_uri(), color_scheme=scheme) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach(it => it.open = true)")
        assert accessibility_findings(visit.page) == []


@pytest.mark.parametrize("width", [1440, 1200, 768, 390])
def test_nothing_is_wider_than_the_window(browser, page_path, width):
    with open_page(browser, page_path.as_uri(), width=width) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach(it => it.open = true)")
        visit.page.get_by_role("button", name="Show all").click()
        assert overflow(visit.page) <= 0
        assert visit.page.locator(".table.wide").evaluate_all(
            "all => all.every(it => (it.scrollWidth > it.clientWidth + 1) === it.classList.contains('scrolls'))"
        )
        cut = "all => all.filter(it => it.scrollWidth > it.clientWidth + 1).map(it => it.textContent.slice(0, 60))"
        assert visit.page.locator(".table:not(.wide)").evaluate_all(cut) == []


def test_without_scripts(browser, page_path):
    with open_page(browser, page_path.as_uri(), java_script_enabled=False) as visit:
        assert visible(visit.page, ".card") == FACES
        assert visible(visit.page, ".tile") == FACES * len(METHODS_SHOWN) * len(MODELS)
        assert visible(visit.page, ".scripted") == 0
        cell = visit.page.locator(".confusion").first.get_by_role("button", name="Fear taken for Sad")
        cell.hover()
        assert cell.locator("xpath=../div").is_visible()
        visit.page.locator("details.model summary").nth(1).click()
        assert visit.page.locator("details.model").nth(1).locator(".charts").is_visible()


def test_names_from_outside_do_nothing(browser, tmp_path):
    run = Run("aaa", DATASET, NASTY, tmp_path)
    write_history(run, recipe_name=NASTY)
    names = [NASTY] * 1980
    write_cache(tmp_path, names=names)
    write_results(run, command=NASTY)
    write_predictions(run, names=names)
    write_explanations(run, "lime", [face(0, None, name=NASTY)])
    path = build_report(tmp_path, DATASET)
    with open_page(browser, path.as_uri()) as visit:
        assert visit.page.evaluate("window.hacked") is None
        assert visit.errors == []
        assert visit.page.locator("script").count() == 1
        assert NASTY in visit.page.locator(".card").inner_text()


def test_only_the_own_script_may_run(browser, page_path, tmp_path):
    changed = tmp_path / "changed.html"
    page = page_path.read_text(encoding="utf-8")
    changed.write_text(page.replace("<body>", "<body><script>window.hacked = 1</script>"), encoding="utf-8")
    with open_page(browser, changed.as_uri()) as visit:
        assert visit.page.evaluate("window.hacked") is None
        assert re.search("Content.Security.Policy", " ".join(visit.errors))
        assert visit.page.evaluate("document.documentElement.classList.contains('js')")
