import csv
import io
import json
import operator
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import scipy.stats

from npTRPO import TRPOConfig, cli
from npTRPO.runs.directory import RunDirectory, RunSettings
from npTRPO.runs.plotting import PALETTE, draw_runs, group_runs, plot_runs, read_run
from npTRPO.runs.statistics import bootstrap_interval, interquartile_mean

CONFIG = TRPOConfig(n_envs=2, n_steps=16, net_arch=(4,), checkpoint_interval=10).to_dict()


def figures(updates, seed=0):
    """Columns of a progress.csv, with no return in the first rows and no residual in one."""
    rng = np.random.default_rng(seed)
    n = np.arange(1, updates + 1)
    return {
        "n_updates": n,
        "num_timesteps": 1000 * n,
        "time_elapsed": 0.5 * n + rng.uniform(0, 0.1, updates),
        "steps_per_second": 2000.0 + rng.uniform(size=updates),
        "episode_return": np.where(n < 3, np.nan, 3.0 * n + rng.standard_normal(updates)),
        "episode_length": np.where(n < 3, np.nan, 10.0),
        "kl": rng.uniform(0.005, 0.01, updates),
        "target_kl": np.full(updates, 0.01),
        "predicted_improvement": rng.uniform(0.02, 0.03, updates),
        "improvement": rng.uniform(0.01, 0.02, updates),
        "cg_residual": np.where(n == 5, np.nan, 10 ** rng.uniform(-4, -2, updates)),
        "explained_variance": rng.uniform(-3, 1, updates),
    }


def make_run(path, updates=12, seed=0, env="CartPole-v1", columns=None, **options):
    """A run directory as a run leaves it."""
    path.mkdir(parents=True)
    config = CONFIG | {"seed": seed} | options
    (path / "config.json").write_text(json.dumps({"format": "npTRPO run", "env": env, "config": config}))
    columns = figures(updates, seed) | {"target_kl": np.full(updates, config["target_kl"])} | (columns or {})
    with (path / "progress.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*columns, "outcome"])
        writer.writerows([*row, "IMPROVED"] for row in zip(*map(list, columns.values()), strict=True))
    return path


@pytest.fixture
def draw():
    """Draws runs as plot_runs does, without writing the picture."""
    pytest.importorskip("matplotlib", reason="drawing is an extra")
    return lambda *paths: draw_runs(paths)


def panel(figure, title):
    [axes] = [axes for axes in figure.axes if axes.get_title().startswith(title)]
    return axes


def thick(axes, style="-"):
    """The lines that stand for runs together, or for a single one."""
    return [line for line in axes.lines if line.get_linewidth() >= 1.5 and line.get_linestyle() == style]


def texts(path):
    """All text of an SVG file."""
    return [
        " ".join("".join(element.itertext()).split())
        for element in ET.parse(path).iter()
        if element.tag.endswith("}text")
    ]


# --- statistics ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(1, 13))
def test_the_interquartile_mean_is_that_of_the_sorted_middle(n):
    x = np.random.default_rng(n).standard_normal((n, 5))
    cut = n // 4
    expected = [sum(sorted(column)[cut : n - cut]) / (n - 2 * cut) for column in x.T.tolist()]
    np.testing.assert_allclose(interquartile_mean(x), expected, rtol=1e-13)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_the_bootstrap_interval_is_scipys(n):
    x = np.random.default_rng(n).standard_normal((n, 4))
    low, high = bootstrap_interval(x, np.random.default_rng(7), resamples=500)
    expected = scipy.stats.bootstrap(
        (x,),
        lambda sample, axis: scipy.stats.trim_mean(sample, 0.25, axis=axis),
        n_resamples=500,
        axis=0,
        method="percentile",
        confidence_level=0.95,
        random_state=np.random.default_rng(7),
    ).confidence_interval
    np.testing.assert_allclose(low, expected.low, rtol=1e-12)
    np.testing.assert_allclose(high, expected.high, rtol=1e-12)


def test_the_bootstrap_interval_covers_the_mean_about_as_often_as_it_says():
    """Of 40 symmetric numbers each: 95 %, less some for the bootstrap's optimism."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 400))
    low, high = bootstrap_interval(x, rng, resamples=400)
    coverage = np.mean((low < 0) & (high > 0))
    assert 0.88 < coverage < 0.98


# --- what is read ----------------------------------------------------------------------------------------


def test_a_real_run_is_read_to_the_number(tmp_path):
    kept = []
    options = TRPOConfig(n_envs=2, n_steps=16, net_arch=(4,), seed=0)
    RunDirectory.create(tmp_path / "run", RunSettings("CartPole-v1", 96, 0), options).train([kept.append])
    run = read_run(tmp_path / "run")
    assert run.config["env"] == "CartPole-v1"
    assert run.config["net_arch"] == [4]
    assert not {"seed", "checkpoint_interval"} & set(run.config)
    np.testing.assert_array_equal(run.columns["num_timesteps"], [32, 64, 96])
    for name, attribute in (("kl", "update.kl"), ("explained_variance", "explained_variance")):
        expected = [operator.attrgetter(attribute)(record) for record in kept]
        np.testing.assert_array_equal(run.columns[name], expected)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("", None, "isn't a run directory that can be read: .*No such file"),
        ("config.json", None, r"isn't a run directory that can be read: .*config\.json"),
        ("config.json", b"{", "isn't a run directory that can be read"),
        ("config.json", b"[]", "isn't a run directory that can be read"),
        ("config.json", b"{}", "isn't a run directory that can be read: it lacks 'env'"),
        ("config.json", b"\xff\xfe", "isn't a run directory that can be read"),
        ("progress.csv", None, "no progress to draw yet"),
        ("progress.csv", b"", "has no progress to draw yet"),
        ("progress.csv", b"kl,notes\n1,2\n", "has no progress to draw yet"),
        ("progress.csv", b"kl,notes\nmuch,2\n", "could not convert"),
        ("progress.csv", b"\x00\xff\n\x01\n", "can't decode"),
    ],
)
def test_what_is_no_run_is_refused_by_its_name_and_nothing_is_drawn(name, content, complaint, tmp_path):
    good, bad = make_run(tmp_path / "good"), make_run(tmp_path / "bad")
    if content is not None:
        (bad / name).write_bytes(content)
    else:
        (bad / name).unlink() if name else shutil.rmtree(bad)
    with pytest.raises(ValueError, match=rf"bad .*{complaint}"):
        plot_runs([good, bad], tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("name", ["out.jpg", "out", "out.PNG", "png"])
def test_only_formats_that_are_offered_are_drawn(name, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.png, \.svg or \.pdf"):
        plot_runs([make_run(tmp_path / "run")], tmp_path / name)
    with pytest.raises(ValueError, match="at least one run"):
        plot_runs([], tmp_path / "out.png")


# --- groups ----------------------------------------------------------------------------------------------


def test_runs_that_differ_only_in_their_seed_belong_together(tmp_path):
    runs = [read_run(make_run(tmp_path / f"{s}", seed=s, checkpoint_interval=s + 1)) for s in range(3)]
    assert {label: len(group) for label, group in group_runs(runs).items()} == {"CartPole-v1": 3}


def test_a_label_says_in_what_settings_differ_and_nothing_else(tmp_path):
    settings = [
        {"target_kl": 0.01, "net_arch": [4]},
        {"target_kl": 0.02, "net_arch": [4]},
        {"target_kl": 0.02, "net_arch": [8, 8]},
        {"target_kl": 0.01, "net_arch": [4], "env": "Acrobot-v1"},
        {"target_kl": 0.02, "net_arch": [4], "seed": 9},
    ]
    runs = [read_run(make_run(tmp_path / str(i), **each)) for i, each in enumerate(settings)]
    groups = group_runs(runs)
    assert {label: [run.path.name for run in group] for label, group in groups.items()} == {
        "CartPole-v1, net_arch=[4], target_kl=0.01": ["0"],
        "CartPole-v1, net_arch=[4], target_kl=0.02": ["1", "4"],
        "CartPole-v1, net_arch=[8, 8], target_kl=0.02": ["2"],
        "Acrobot-v1, net_arch=[4], target_kl=0.01": ["3"],
    }


# --- what is drawn ---------------------------------------------------------------------------------------


def test_a_run_is_drawn_as_its_figures(draw, tmp_path):
    run = make_run(tmp_path / "run")
    figure = draw(run)
    columns = read_run(run).columns
    for title, x, y, style in (
        ("Return over steps", "num_timesteps", "episode_return", "-"),
        ("Return over time", "time_elapsed", "episode_return", "-"),
        ("KL", "num_timesteps", "kl", "-"),
        ("Improvement", "num_timesteps", "improvement", "-"),
        ("Improvement", "num_timesteps", "predicted_improvement", ":"),
        ("Conjugate", "num_timesteps", "cg_residual", "-"),
        ("Value", "num_timesteps", "explained_variance", "-"),
    ):
        [line] = thick(panel(figure, title), style)
        known = np.isfinite(columns[y])
        np.testing.assert_array_equal(line.get_xdata(), columns[x][known])
        np.testing.assert_array_equal(line.get_ydata(), columns[y][known])


def test_the_trust_region_is_drawn_where_it_is(draw, tmp_path):
    runs = [make_run(tmp_path / str(i), target_kl=kl, seed=i) for i, kl in enumerate([0.01, 0.01, 0.05])]
    dashed = [line for line in panel(draw(*runs), "KL").lines if line.get_linestyle() == "--"]
    assert sorted(line.get_ydata()[0] for line in dashed) == [0.01, 0.05]


def test_runs_together_are_drawn_by_their_interquartile_mean_over_what_they_share(draw, tmp_path):
    """Straight lines, of which the mean is known without interpolation: slopes 1 to 4, and 100."""
    slopes, lengths = [4.0, 1.0, 3.0, 100.0, 2.0], [12, 20, 9, 15, 30]
    runs = []
    for i, (slope, length) in enumerate(zip(slopes, lengths, strict=True)):
        n = np.arange(1, length + 1)
        columns = {"episode_return": np.where(n < 3, np.nan, slope * n)}
        runs.append(make_run(tmp_path / str(i), updates=length, seed=i, columns=columns))
    axes = panel(draw(*runs), "Return over steps")
    [line] = thick(axes)
    x, y = line.get_xdata(), line.get_ydata()
    assert (x[0], x[-1]) == (3000, 9000)  # from the last first return to the first last one
    np.testing.assert_allclose(y, 3.0 * x / 1000, rtol=1e-12)  # of slopes 2, 3 and 4
    assert len(axes.lines) == 6
    [band] = axes.collections
    heights = band.get_paths()[0].vertices
    assert heights[:, 1].min() < 3.0 * 3
    assert heights[:, 1].max() > 3.0 * 9


def test_there_is_an_interval_from_three_runs_on(draw, tmp_path):
    runs = [make_run(tmp_path / str(s), seed=s) for s in range(3)]
    bands = [len(panel(draw(*runs[:n]), "Return over steps").collections) for n in (1, 2, 3)]
    assert bands == [0, 0, 1]


def test_what_varies_from_update_to_update_is_drawn_by_medians_of_stretches(draw, tmp_path):
    figure = draw(make_run(tmp_path / "run", updates=500))
    kl, returns = panel(figure, "KL"), panel(figure, "Return over steps")
    [line] = thick(kl)
    columns = figures(500)
    expected = [sorted(columns["kl"][i : i + 10].tolist()) for i in range(0, 500, 10)]
    np.testing.assert_allclose(line.get_ydata(), [(ten[4] + ten[5]) / 2 for ten in expected], rtol=1e-12)
    np.testing.assert_allclose(line.get_xdata(), 10_000 * np.arange(50) + 5500)
    assert any(len(thin.get_xdata()) == 500 and thin.get_linewidth() < 1 for thin in kl.lines)
    assert len(thick(returns)[0].get_xdata()) == 498  # a mean over episodes already


def test_a_run_without_an_episode_yet_is_drawn_all_the_same(draw, tmp_path):
    none = {"episode_return": np.full(12, np.nan), "cg_residual": np.full(12, np.nan)}
    runs = [make_run(tmp_path / str(s), seed=s, columns=none) for s in range(3)]
    more = make_run(tmp_path / "more", seed=7)
    for chosen, points in ((runs, 0), (runs[:1], 0), ([*runs, more], 200)):
        [line] = thick(panel(draw(*chosen), "Return over steps"))
        assert line.get_xdata().size == points
    plot_runs(runs[:1], tmp_path / "one.png")
    assert (tmp_path / "one.png").exists()


def test_runs_that_share_no_range_are_drawn_without_a_mean(draw, tmp_path):
    later = {"num_timesteps": np.arange(100_000, 112_000, 1000)}
    runs = [make_run(tmp_path / "early"), make_run(tmp_path / "late", seed=1, columns=later)]
    [line] = thick(panel(draw(*runs), "Return over steps"))
    assert line.get_xdata().size == 0


# --- files -----------------------------------------------------------------------------------------------


def drawn_twice_the_same(runs, out):
    """Draw runs to a file, and once more, to the same bytes; return them."""
    pytest.importorskip("matplotlib", reason="drawing is an extra")
    contents = []
    for _ in range(2):
        assert plot_runs(runs, out) == out
        contents.append(out.read_bytes())
    assert contents[0] == contents[1]
    assert not list(out.parent.glob("*.part"))
    return contents[0]


def test_a_pdf_is_one(tmp_path):
    runs = [make_run(tmp_path / str(s), seed=s) for s in range(3)]
    content = drawn_twice_the_same(runs, tmp_path / "out.pdf")
    assert content.startswith(b"%PDF")
    assert len(content) > 5000


def test_a_png_shows_lines_in_the_colours_of_their_groups(tmp_path):
    Image = pytest.importorskip("PIL.Image", reason="it reads pictures")
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", seed=1, target_kl=0.02)]
    content = drawn_twice_the_same(runs, tmp_path / "out.png")
    assert content.startswith(b"\x89PNG")
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape == (900, 1560, 3)
    for colour in PALETTE[:2]:
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert np.sum(np.all(pixels == rgb, axis=-1)) > 500
    third = [int(PALETTE[2][i : i + 2], 16) for i in (1, 3, 5)]
    assert not np.any(np.all(pixels == third, axis=-1))


def test_an_svg_names_axes_groups_and_numbers_of_runs_as_text(tmp_path):
    runs = [make_run(tmp_path / str(s), seed=s) for s in range(3)]
    runs.append(make_run(tmp_path / "other", gamma=0.5))
    assert drawn_twice_the_same(runs, tmp_path / "out.svg").startswith(b"<?xml")
    found = texts(tmp_path / "out.svg")
    titles = ["Return over steps", "Return over time", "KL divergence (dashed: δ)", "Conjugate gradients"]
    titles += ["Improvement (dotted: predicted)", "Value function (cut off below −1)"]
    axes = ["environment steps", "seconds", "mean return of the last 100 episodes"]
    axes += ["mean KL(old ‖ new) in nats"]
    groups = ["CartPole-v1, gamma=0.99 (3 runs)", "CartPole-v1, gamma=0.5"]
    assert set(titles + axes + groups) <= set(found)
    assert {"2k", "10k"} <= set(found)  # numbers of steps
    assert "2000" not in found


def test_a_gain_that_dwarfs_all_others_is_cut_off_and_the_axis_says_so(draw, tmp_path):
    gains = np.full(300, 0.2)
    plain = make_run(tmp_path / "plain", 300, columns={"improvement": gains.copy()})
    axes = panel(draw(plain), "Improvement")
    assert axes.get_ylabel() == "surrogate, new − old"
    assert 0.2 < axes.get_ylim()[1] < 0.3
    gains[200] = 311.4
    axes = panel(draw(make_run(tmp_path / "run", 300, columns={"improvement": gains})), "Improvement")
    assert axes.get_ylabel() == "surrogate, new − old (cut off above 0.4)"
    assert axes.get_ylim() == (0, pytest.approx(0.4))
    nothing = {name: np.full(12, np.nan) for name in ("improvement", "predicted_improvement")}
    axes = panel(draw(make_run(tmp_path / "nothing", columns=nothing)), "Improvement")
    assert axes.get_ylabel() == "surrogate, new − old"


def test_long_labels_stay_inside_the_picture(draw, tmp_path):
    options = {"target_kl": 0.02, "net_arch": [256, 256, 256], "cg_damping": 0.001, "gae_lambda": 0.5}
    options |= {"n_envs": 4, "normalize_rewards": False}
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", **options)]
    figure = draw(*runs)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.y0 >= 0
    for axes in figure.axes:
        assert not axes.get_window_extent().overlaps(box)


def test_each_of_several_environments_has_panels_of_its_own(draw, tmp_path):
    """The same settings in the same colours, and no axis that two environments share."""
    hopper = {"env": "Hopper-v5", "n_envs": 8}
    kinds = {"a": {}, "b": {"gamma": 0.5}, "c": hopper | {"gamma": 0.5}, "d": hopper | {"gamma": 0.9}}
    runs = [make_run(tmp_path / name, **options) for name, options in kinds.items()]
    assert not draw(runs[0], runs[1]).subfigs
    first, second = draw(*runs).subfigs
    assert [part.get_suptitle() for part in (first, second)] == ["CartPole-v1", "Hopper-v5"]
    legends = [[text.get_text() for text in part.legends[0].get_texts()] for part in (first, second)]
    assert legends == [
        ["CartPole-v1, gamma=0.99", "CartPole-v1, gamma=0.5"],
        ["Hopper-v5, gamma=0.5", "Hopper-v5, gamma=0.9"],
    ]
    for part, colours in ((first, PALETTE[:2]), (second, PALETTE[1:3])):
        assert len(part.axes) == 6
        assert [line.get_color() for line in thick(panel(part, "Return over steps"))] == list(colours)


def test_a_folder_of_runs_is_drawn_and_one_without_progress_yet_is_named(tmp_path, capsys):
    pytest.importorskip("matplotlib.font_manager", reason="drawing is an extra")
    runs = [make_run(tmp_path / "runs" / str(seed), seed=seed) for seed in range(3)]
    progress = runs[1] / "progress.csv"
    for lines in (progress.read_text().splitlines()[:1], None):
        if lines is None:
            progress.unlink()
        else:
            progress.write_text("\n".join(lines) + "\n")
        target = tmp_path / "figures" / "out.svg"
        assert cli.main(["plot", str(tmp_path / "runs"), "--out", str(target)]) == 0
        out, err = capsys.readouterr()
        assert out == f"drew {target}\n"
        assert "CartPole-v1 (2 runs)" in target.read_text()
        assert err.startswith(f"nptrpo: warning: {runs[1]} has no progress to draw yet")
    assert cli.main(["plot", str(runs[1]), "--out", str(tmp_path / "other.svg")]) == 1
    assert "has no progress to draw yet" in capsys.readouterr().err


def test_evaluations_are_a_dashed_curve_over_steps(tmp_path, draw):
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b", gamma=0.5)
    (first / "evaluations.csv").write_text(
        "n_updates,num_timesteps,mean_return,std_return\n4,4000,10.0,1.0\n8,8000,30.0,2.0\n12,12000,25.5,0.0\n"
    )
    figure = draw(first, second)
    [line] = thick(panel(figure, "Return over steps (dashed: evaluations)"), "--")
    np.testing.assert_array_equal(line.get_xydata(), [[4000, 10], [8000, 30], [12000, 25.5]])
    assert not thick(panel(figure, "Return over time"), "--")
    assert panel(draw(second), "Return over steps").get_title() == "Return over steps"


def test_evaluations_that_are_none_are_refused(tmp_path):
    run = make_run(tmp_path / "a")
    (run / "evaluations.csv").write_text("n_updates,mean\n4,10.0\n")
    with pytest.raises(ValueError, match=r"evaluations\.csv has other columns"):
        read_run(run)
