"""All runs on one page: written, opened in a browser, sorted, drawn, whatever is in the files."""

import json
import os
import re
import sys

import pytest

from html_document import EVIL
from pipelines.config import compose_config
from pipelines.insights import main
from pipelines.run_insights.runs_page import MAX_POINTS, make_page
from written_runs import config, make_run, write_runs

READY = "document.documentElement.dataset.ready"


@pytest.fixture
def runs(tmp_path):
    return write_runs(tmp_path / "runs")


def test_a_secret_among_the_keys_is_not_shown(runs):
    for name, value in (("good", "hunter2"), ("faster", "hunter3")):
        path = runs / name / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"api_key": value}))
    assert "hunter" not in make_page(runs, None, runs)


def test_no_chart_has_more_than_five_thousand_points(tmp_path):
    for i in range(30):
        make_run(tmp_path / "runs" / f"run{i}", config(seed=i), lines=700)
    page = make_page(tmp_path / "runs", None, None)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert len(data["runs"]) == 30
    for name in data["names"]:
        assert sum(len(run["points"].get(name, [[]])[0]) for run in data["runs"]) <= MAX_POINTS


def test_the_program_writes_the_page_and_links_the_pages_of_the_runs(runs, capsys):
    (runs / "good" / "replay.html").touch()
    path = main(compose_config("insights", [f"runs={runs}", "price_per_hour=2"]))
    assert capsys.readouterr().out == f"{runs / 'insights.html'}\n"
    page = path.read_text("utf-8")
    assert 'href="good/replay.html"' in page
    assert 'href="faster/replay.html"' not in page
    assert "http-equiv" in page
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r'(src|href)="https?:', own)
    assert sorted(os.listdir(runs)) == sorted(
        ["good", "faster", "walk", "half", "failed", "empty", "notes.txt", "insights.html"]
    )


def test_a_folder_that_is_none_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(compose_config("insights", [f"runs={tmp_path / 'none'}"]))
    assert "a folder that exists" in capsys.readouterr().err
    for words in (["price_per_hour=0"], ["port=70000"], ["host=0.0.0.0"]):
        with pytest.raises(ValueError, match=r"price_per_hour|port|unknown key host"):
            compose_config("insights", words)


def test_an_empty_folder_has_a_page_without_a_chart(tmp_path, chromium):
    chromium.open(main(compose_config("insights", [f"runs={tmp_path}"])))
    chromium.wait(READY)
    assert "There is no run here yet" in chromium.run("return document.body.innerText")
    assert chromium.run("return document.querySelector('#curves').offsetParent === null")
    assert chromium.errors() == []


def test_serving_without_its_packages_is_refused(runs, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "dash", None)
    for name in [name for name in sys.modules if name.startswith("pipelines.run_insights.server")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit):
        main(compose_config("insights", [f"runs={runs}", "serve=true"]))
    assert "serve=true needs pip install -e '.[insights]'" in capsys.readouterr().err


@pytest.fixture
def opened(chromium, runs):
    """The page in a browser, 1,280 pixels wide."""
    path = main(compose_config("insights", [f"runs={runs}", "price_per_hour=2"]))
    chromium.resize(1280, 900)
    chromium.open(path)
    chromium.wait(READY)
    chromium.errors()
    return chromium


def column_of(browser, title):
    """The texts of a column, from the top."""
    return browser.run(
        f"""const table = document.querySelector("table"), heads = [...table.tHead.rows[0].cells];
        const i = heads.findIndex(head => head.textContent === {title!r});
        return [...table.tBodies[0].rows].map(row => row.cells[i].textContent.trim())"""
    )


def test_the_table_is_sorted_by_the_keyboard_and_the_address_remembers(opened, runs):
    find = "[...document.querySelectorAll('thead button')].find(b => b.textContent === 'frames')"
    opened.run(f"{find}.focus()")
    for kind in ("keyDown", "keyUp"):
        opened.tell("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter",
                    windowsVirtualKeyCode=13, text="\r")  # fmt: skip
    opened.wait("document.querySelector('th[aria-sort=ascending]')")
    frames = [int(text.replace(",", "")) for text in column_of(opened, "frames")]
    assert frames == sorted(frames)
    assert len(set(frames)) > 2
    opened.run(f"{find}.click()")
    assert [int(text.replace(",", "")) for text in column_of(opened, "frames")] == frames[::-1]
    opened.run("byId('curve').value = 'time/sps'; byId('curve').onchange()")
    fragment = opened.run("return location.hash")
    opened.open(runs / "insights.html", "#")
    opened.open(runs / "insights.html", fragment)
    opened.run("window.before = true; location.reload()")
    opened.wait(f"!window.before && {READY} && byId('curve').value === 'time/sps'")
    assert [int(text.replace(",", "")) for text in column_of(opened, "frames")] == frames[::-1]
    assert opened.errors() == []


def test_the_chosen_runs_and_curve_are_drawn(opened):
    drawn = "return byId('curves').data.map(t => [t.name, t.y.length])"
    before = dict(opened.run(drawn))
    assert before == {"good": 10, "faster": 10, "walk/stopped": 4, "half": 10, "failed": 2}
    opened.run("document.querySelector('[aria-label=\"draw good\"]').click()")
    assert set(dict(opened.run(drawn))) == set(before) - {"good"}
    opened.run("byId('curve').value = 'time/sps'; byId('curve').onchange()")
    assert opened.run("return byId('curves').data[0].y[0]") in (400, 800)
    assert opened.errors() == []


def test_what_a_log_scale_cannot_show_is_said(opened):
    opened.run("byId('curve').value = 'rollout/ep_rew_mean'; byId('curve').onchange()")
    assert "log" not in opened.run("return byId('said').textContent")
    values = opened.run("return byId('curves').data.flatMap(t => t.y)")
    lost = sum(value <= 0 for value in values)
    assert lost > 0
    opened.run("byId('scale').value = 'log'; byId('scale').onchange()")
    assert f"no place for {lost} points" in opened.run("return byId('said').textContent")


def test_a_link_leads_to_the_same_runs_when_there_are_new_ones(opened, runs):
    drawn = "return byId('curves').data.map(t => t.name).sort()"
    for name in ("good", "half", "failed"):
        opened.run(f"document.querySelector('[aria-label=\"draw {name}\"]').click()")
    assert opened.run(drawn) == ["faster", "walk/stopped"]
    fragment = opened.run("return location.hash")
    make_run(runs / "new", config(seed=9))
    main(compose_config("insights", [f"runs={runs}"]))
    opened.open(runs / "insights.html", "#")
    opened.open(runs / "insights.html", fragment)
    opened.run("location.reload()")
    opened.wait(f"{READY} && document.querySelector('[aria-label=\"draw new\"]')")
    assert opened.run(drawn) == ["faster", "walk/stopped"]
    assert opened.errors() == []


def test_a_long_name_leaves_room_for_the_figures_and_paper_shows_every_row(opened, runs):
    make_run(runs / f"a{'long' * 50}", config(seed=9))
    path = main(compose_config("insights", [f"runs={runs}"]))
    for width in (1280, 390):
        opened.resize(width, 844, phone=width == 390)
        opened.open(path)
        opened.wait(READY)
        head = "document.querySelector('thead th').getBoundingClientRect().width"
        assert opened.run(f"return {head}") < 0.6 * width
    opened.resize(720, 400)
    opened.tell("Emulation.setEmulatedMedia", media="print")
    box = "document.querySelector('.scroll')"
    assert opened.run(f"return {box}.clientHeight >= {box}.querySelector('table').offsetHeight")
    assert opened.run("return document.querySelector('.controls').offsetParent === null")
    opened.tell("Emulation.setEmulatedMedia", media="")


def test_the_page_fits_a_phone_and_the_dark_and_runs_no_words_of_files(opened, runs):
    opened.resize(390, 844, dark=True, phone=True)
    opened.open(runs / "insights.html")
    opened.wait(READY)
    assert opened.run("return document.documentElement.scrollWidth") <= 390
    assert opened.run("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 28)"
    fill = "getComputedStyle(document.querySelector('#curves text')).fill"
    assert opened.run(f"return {fill}") == "rgb(230, 233, 238)"
    assert opened.run("return document.querySelectorAll('img').length") == 0
    assert "owned" not in opened.run("return document.title")
    assert EVIL in opened.run("return document.body.textContent")
    assert EVIL in opened.run("return [...byId('curve').options].map(o => o.value)")
    assert opened.errors() == []
