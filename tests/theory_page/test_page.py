"""The verification page: what is in it, and how a browser shows it."""

import html
import inspect
import itertools
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from npTRPO.cli import main
from npTRPO.theory import verify
from npTRPO.theory.checks import AtMost, Equal, Kind
from npTRPO.theory.derivation import CHECKS
from npTRPO.theory_page import figures
from npTRPO.theory_page.page import page

VOID = {"meta", "br"}
WIDTHS, SCHEMES = (390, 1280), ("light", "dark")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Document(HTMLParser):
    """A page as a list of elements, read strictly: every element is closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.inside == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), self.get_starttag_text()
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.inside.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        if "style" not in self.inside:
            self.words.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def ids(self):
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]


def made(report):
    """The page of a report, where what makes it is installed."""
    for name in ("latex2mathml", "matplotlib"):
        pytest.importorskip(name, reason="the page needs an extra")
    return page(report)


@pytest.fixture(scope="module")
def report():
    return verify(instances=5, seed=1)


@pytest.fixture(scope="module")
def text(report):
    return made(report)


@pytest.fixture(scope="module")
def document(text):
    return Document(text)


def article(text, number):
    """The part of the page that is about one equation."""
    found = re.search(rf'<article id="{number}".*?</article>', text, re.S)
    assert found is not None, number
    return found.group()


def words_of(markup):
    """The words that are read, with one space between them."""
    return " ".join("".join(Document(markup).words).split())


# --- what is in it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [check.equation.number for check in CHECKS])
def test_every_equation_has_all_that_is_known_of_it(number, report, text):
    part = article(text, number)
    read = words_of(part)
    [row] = [row for row in report.rows if row.check.equation.number == number]
    equation = row.check.equation
    for words in (number, equation.title, equation.source, row.check.kind.value, "✓ holds"):
        assert words.replace("'", "’") in read
    for thing in row.check.implementations:
        place = re.search(
            rf"<code>{re.escape(thing.__qualname__)}</code> <span>(npTRPO/\S+\.py):(\d+)<", part
        )
        assert place is not None, thing
        assert place[1].endswith(Path(inspect.getfile(inspect.unwrap(thing))).name)
        assert int(place[2]) == inspect.getsourcelines(thing)[1]
    assert part.count("<svg") == (2 if number in ("E13", "E20", "E36", "E43") else 1)


@pytest.mark.parametrize("number", [check.equation.number for check in CHECKS])
def test_every_formula_is_well_formed_mathml_and_told_as_text(number, text):
    found = re.search(r'<div class="formula".*?</div>', article(text, number), re.S)
    assert found is not None
    formula = ET.fromstring(found.group())
    [equation] = [check.equation for check in CHECKS if check.equation.number == number]
    assert (formula.get("role"), formula.get("aria-label")) == ("math", equation.text)
    assert {part.tag for part in formula} == {"math"}
    assert len(formula) == equation.latex.count(r"\quad") + 1
    children = {"mfrac": 2, "msub": 2, "msup": 2, "msubsup": 3, "munder": 2, "mover": 2}
    assert all(children.get(element.tag, len(element)) == len(element) for element in formula.iter())
    letters = "".join(formula.itertext())
    assert not set(letters) & set("\\~_^{}") - ({"^"} if "hat" in equation.latex else set()) - set("{}")
    # Every letter and digit of the text is there, in whatever order scripts are written.
    plain = re.sub(r"[\W_]", "", equation.text.translate(_SCRIPTS).replace("½", "12"))
    assert sorted(plain) == sorted(re.sub(r"[\W_]", "", letters))


_SCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹ᵀᵗˡᵏⁿⁱ₀₁₂₃₄₅₆₇₈₉", "0123456789Ttlkni0123456789")


def test_the_equations_stand_in_the_order_of_the_derivation_under_its_headings(text):
    marks = re.findall(r'<article id="(E\d+)"|<h2 id="[^"]+">(.+?) <small>', text)
    expected = []
    for title, checks in itertools.groupby(CHECKS, lambda check: check.equation.section):
        expected += [("", title), *((check.equation.number, "") for check in checks)]
    assert marks == expected


def test_the_page_says_what_it_was_made_with(text):
    assert "All 58 equations hold" in text
    assert "5 random instances (seed 1)" in text
    assert "nptrpo verify --html FILE --instances 5 --seed 1" in text


@pytest.mark.parametrize(
    ("comparison", "shown"),
    [
        (Equal(2.1e-15, 0.0, 1.0), "Measured2.1 × 10⁻¹⁵Allowed≤ 10⁻¹¹"),
        (Equal(0.0, 0.0), "Measured0Allowed≤ 10⁻¹¹"),
        (AtMost(2e-12, 0.0, 1.0), "Measured−2.0 × 10⁻¹²Allowed≥ −10⁻¹¹"),
    ],
)
def test_numbers_are_set_as_one_writes_them(comparison, shown):
    kind = Kind.INEQUALITY if isinstance(comparison, AtMost) else Kind.IDENTITY
    check = replace(CHECKS[0], kind=kind, measure=lambda instance: (comparison,))
    text = made(verify(1, checks=[check]))
    assert shown in words_of(article(text, "E1")).replace("\N{NO-BREAK SPACE}", " ")


# --- failures -----------------------------------------------------------------------------------------------


FEW = CHECKS[4:8]
"""Checks of two sections, as whole pages take seconds to draw."""


def instead(number, measure):
    return tuple(replace(c, measure=measure) if c.equation.number == number else c for c in FEW)


@pytest.mark.parametrize(
    ("comparison", "sentence"),
    [
        (Equal(1.0, 2.0), "the sides differ by 0.5 of their size"),
        (AtMost(2.0, 1.0), "an inequality is violated by 0.5 of its size"),
        (Equal(float("nan"), 1.0), "the sides differ by inf of their size"),
    ],
)
def test_an_equation_that_fails_is_shown_as_failed(comparison, sentence):
    text = made(verify(2, checks=instead("E5", lambda instance: (comparison,))))
    Document(text)
    read = words_of(article(text, "E5"))
    assert "✗ fails" in read
    assert sentence in read
    assert "✓ holds" not in read
    assert "1 of 4 equations fails: E5" in text
    assert "All 4" not in text
    assert re.search(r'<a class="fails" href="#E5" aria-label="E5 fails: [^"]+">E5 <span[^>]*>✗', text)
    assert 'class="holds"' in article(text, "E6")


def test_what_a_function_raises_is_told_and_can_not_break_the_page():
    def broken(instance):
        raise ValueError('<script>"&"</script>')

    text = made(verify(2, checks=instead("E7", broken)))
    assert '<script>"&"</script>' in "".join(Document(text).words)
    assert "<script>" not in text
    assert "✗ fails" in article(text, "E7")


def test_an_equation_without_anything_to_compare_fails_and_has_no_histogram():
    part = article(made(verify(2, checks=instead("E8", lambda instance: ()))), "E8")
    assert "there was nothing to compare in any instance" in part
    assert "<svg" not in part


def test_instances_without_anything_to_compare_are_counted():
    calls = iter([(), (Equal(1.0, 1.0),), ()])
    part = article(made(verify(3, checks=instead("E8", lambda instance: next(calls)))), "E8")
    assert "In 2 of 3 instances there was nothing to compare." in part


def test_a_figure_whose_functions_fail_is_told_of(report, monkeypatch):
    def broken(*_):
        raise FloatingPointError("a < b")

    monkeypatch.setattr(figures, "cg_errors", broken)
    rows = tuple(row for row in report.rows if row.check.equation.number in ("E20", "E36"))
    text = made(replace(report, rows=rows))
    assert "can’t be drawn: FloatingPointError: a &lt; b" in article(text, "E36")
    assert "<figure>" in article(text, "E20")


# --- how it is made -----------------------------------------------------------------------------------------


def test_nothing_is_loaded_from_anywhere(document, text):
    tags = {tag for tag, _ in document.elements}
    assert not tags & {"script", "link", "iframe", "img", "image", "object", "embed", "video", "base", "form"}
    for _, attributes in document.elements:
        assert not {name for name in attributes if name in ("src", "srcset") or name.startswith("on")}
        assert str(attributes.get("href", "#")).startswith("#")
    assert not re.findall(r"[a-z]+://[^\s\"'<>]+", text)
    assert set(re.findall(r"url\(.", text)) == {"url(#"}
    assert "@import" not in text


def test_ids_are_unique_and_everything_that_refers_to_one_finds_it(document):
    ids = document.ids
    assert len(set(ids)) == len(ids)
    for _, attributes in document.elements:
        for name in ("aria-labelledby", "href"):
            for target in str(attributes.get(name) or "").replace("#", "").split():
                assert target in ids, target
        for target in re.findall(r"url\(#(.+?)\)", str(attributes)):
            assert target in ids, target


def test_the_page_can_be_read_without_seeing_it(document):
    assert document.named("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in document.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert {tag for tag, _ in document.elements} >= {"header", "nav", "main", "footer", "title"}
    assert all(
        attributes.get("role") == "img" and attributes.get("aria-label")
        for attributes in document.named("svg")
    )
    assert len(document.named("svg")) == 58 + 4


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_has_the_contrast_that_accessibility_asks_for(scheme, text):
    """At least 4.5 to 1, as WCAG 2.2 asks for text of any size."""
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6});", block))
        for block in re.findall(r":root \{(.*?)\}", text, re.S)
    )
    colours = light if scheme == "light" else dark
    assert set(light) == set(dark)
    pairs = [
        (ink, paper)
        for ink in ("ink", "quiet", "good", "bad", "blue", "red", "green")
        for paper in ("paper", "card")
    ]
    for ink, paper in [*pairs, ("good", "good-paper"), ("bad", "bad-paper")]:
        lower, higher = sorted(luminance(colours[name]) for name in (ink, paper))
        assert (higher + 0.05) / (lower + 0.05) >= 4.5, (ink, paper)


def test_the_same_report_gives_the_same_page(report):
    few = replace(report, rows=report.rows[12:14])  # with a figure
    assert made(few) == made(few)


def test_the_page_has_a_modest_size(text):
    assert len(text.encode()) < 600_000


# --- the command --------------------------------------------------------------------------------------------


needs_the_extra = pytest.mark.usefixtures("text")


@pytest.fixture
def few(monkeypatch):
    """Let the command verify a few equations."""
    monkeypatch.setattr("npTRPO.theory.report.verify", lambda n, seed: verify(n, seed, FEW))


@needs_the_extra
@pytest.mark.usefixtures("few")
def test_the_command_writes_the_page_and_prints_the_table(tmp_path, capsys):
    target = tmp_path / "page.html"
    assert main(["verify", "--instances", "2", "--seed", "3", "--html", str(target)]) == 0
    printed = capsys.readouterr()
    assert "4 of 4 equations hold on 2 random instances" in printed.out
    assert printed.out.endswith(f"wrote {target}\n")
    assert not printed.err
    assert "2 random instances (seed 3)" in target.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [target]


@needs_the_extra
@pytest.mark.usefixtures("few")
def test_with_json_nothing_else_is_printed(tmp_path, capsys):
    target = tmp_path / "page.html"
    assert main(["verify", "--instances", "1", "--json", "--html", str(target)]) == 0
    assert len(json.loads(capsys.readouterr().out)["equations"]) == 4
    assert target.exists()


@pytest.mark.parametrize("where", ["missing/page.html", "."])
def test_a_place_where_no_file_can_be_is_refused_before_anything_is_measured(
    where, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("npTRPO.theory.report.verify", None)
    assert main(["verify", "--html", where]) == 2
    assert "--html needs a file in a directory that exists" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["latex2mathml", "matplotlib"])
def test_a_missing_extra_is_named_before_anything_is_measured(package, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("npTRPO.theory.report.verify", None)
    assert main(["verify", "--html", str(tmp_path / "page.html")]) == 1
    message = capsys.readouterr().err
    assert package in message
    assert "npTRPO[html]" in message
    assert not list(tmp_path.iterdir())


@needs_the_extra
@pytest.mark.usefixtures("few")
def test_a_page_that_fails_on_the_way_leaves_the_old_one(tmp_path, monkeypatch, capsys):
    target = tmp_path / "page.html"
    target.write_text("old")

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main(["verify", "--instances", "1", "--html", str(target)]) == 1
    assert "no space left" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


@needs_the_extra
def test_a_failure_still_writes_the_page_and_is_told_by_the_status(tmp_path, monkeypatch: pytest.MonkeyPatch):
    checks = instead("E5", lambda instance: (Equal(1.0, 2.0),))
    monkeypatch.setattr("npTRPO.theory.report.verify", lambda n, seed: verify(n, seed, checks))
    target = tmp_path / "page.html"
    assert main(["verify", "--instances", "1", "--html", str(target)]) == 1
    assert "1 of 4 equations fails: E5" in target.read_text(encoding="utf-8")


# --- in a browser -------------------------------------------------------------------------------------------

LOOK = """
onload = () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const view = frame.contentWindow, page = frame.contentDocument;
    page.querySelectorAll("details").forEach(element => element.open = true);
    const all = selector => [...page.querySelectorAll(selector)];
    const box = element => element.getBoundingClientRect();
    const number = element => (element.closest("article") || {}).id;
    const name = element => `${element.tagName} .${element.getAttribute("class")} in ${number(element)}`;
    const size = element => parseFloat(view.getComputedStyle(element).fontSize);
    const scrolls = element => view.getComputedStyle(element).overflowX === "auto";
    found[frame.title] = {
      width: view.innerWidth,
      scrollWidth: page.scrollingElement.scrollWidth,
      dark: view.matchMedia("(prefers-color-scheme: dark)").matches,
      background: view.getComputedStyle(page.body).backgroundColor,
      maths: all("math").map(math => [number(math), box(math).width, box(math).height]),
      indices: all("msub > :nth-child(2)").map(index => size(index) / size(index.parentElement)),
      sticking: all("body *").filter(element => !element.parentElement.closest(".formula")
        && box(element).width && (box(element).right > view.innerWidth + 0.5 || box(element).left < -0.5)
      ).map(name),
      spilling: all("body *:not(svg *):not(.formula *)").filter(element => element.clientWidth
        && element.scrollWidth > element.clientWidth + 1 && !scrolls(element)).map(name),
      cut: all("svg text").filter(text => {
        const inner = box(text), outer = box(text.closest("svg"));
        return inner.left < outer.left - 1 || inner.right > outer.right + 1
          || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1;
      }).map(text => `${text.textContent} in ${number(text)}`),
    };
  }
  document.body.innerHTML = "<pre></pre>";
  document.querySelector("pre").textContent = JSON.stringify(found);
};
"""


def looked_at(text, directory):
    """Measure the page in a browser at each width and in each scheme, in one start with a frame for each."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    frames = "".join(
        f'<iframe title="{width} {scheme}" srcdoc="{html.escape(text)}" '
        f'style="width: {width}px; height: 800px; border: 0; color-scheme: {scheme}"></iframe>'
        for width in WIDTHS
        for scheme in SCHEMES
    )
    source = directory / "frames.html"
    source.write_text(f'<!doctype html><meta charset="utf-8"><body>{frames}<script>{LOOK}</script>', "utf-8")
    options = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        f"--disable-component-update --disable-sync --hide-scrollbars --user-data-dir={directory / 'user'}"
    )
    command = [browser, *options.split(), "--dump-dom", str(source)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120)
    found = re.search(r"<pre>(\{.*\})</pre>", done.stdout)
    assert found is not None, done.stderr[-2000:]
    result = json.loads(html.unescape(found.group(1)))
    assert len(result) == len(WIDTHS) * len(SCHEMES)
    return result


@pytest.fixture(scope="module")
def seen(text, tmp_path_factory):
    """The page in all views."""
    return looked_at(text, tmp_path_factory.mktemp("browser"))


each_view = pytest.mark.parametrize("view", [f"{width} {scheme}" for width in WIDTHS for scheme in SCHEMES])


@pytest.mark.slow
@each_view
def test_a_browser_shows_every_equation(view, seen):
    maths = seen[view]["maths"]
    assert {number for number, _, _ in maths} == {f"E{n}" for n in range(1, 59)}
    assert all(width > 20 and height > 10 for _, width, height in maths)
    assert all(0.5 < size < 0.9 for size in seen[view]["indices"])


@pytest.mark.slow
@each_view
def test_nothing_overflows_in_a_browser(view, seen):
    """Long formulas may scroll inside of their own box."""
    width, scheme = view.split()
    found = seen[view]
    assert found["width"] == int(width)
    assert found["scrollWidth"] <= found["width"]
    assert found["sticking"] == []
    assert found["spilling"] == []
    assert found["cut"] == []
    assert found["dark"] == (scheme == "dark")


@pytest.mark.slow
def test_the_schemes_have_light_and_dark_paper(seen):
    for width in WIDTHS:
        brightness = [sum(map(int, re.findall(r"\d+", seen[f"{width} {s}"]["background"]))) for s in SCHEMES]
        assert brightness[0] > 700
        assert brightness[1] < 100


@pytest.mark.slow
def test_the_look_finds_what_is_missing_and_what_sticks_out(report, tmp_path):
    text = made(replace(report, rows=report.rows[:1]))
    spoiled = text.replace("</header>", '<p style="width: 2000px">wide</p></header>')
    spoiled = spoiled.replace("<math ", '<math style="display: none" ', 1)
    spoiled = spoiled.replace("<text ", '<text dx="999" ', 1)
    for found in looked_at(spoiled, tmp_path).values():
        assert found["scrollWidth"] >= 2000
        assert found["maths"][0] == ["E1", 0, 0]
        assert "P .null in undefined" in found["sticking"]
        assert len(found["cut"]) == 1
