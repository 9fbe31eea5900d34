"""Draws what was measured: the growth of an update's time, and what steps of conjugate gradients bring."""

from pathlib import Path

from tests.benchmarks import scaling
from tests.benchmarks.files import read_rows
from tests.benchmarks.growth import curve, exponents

FIGURE = Path(__file__).parents[2] / "demos/figures/speed.svg"
BLUE, VERMILION = "#0072b2", "#d55e00"
STEPS = (1, 3, 5, 15)
COLOURS = {"Kronecker factors, 3 steps": BLUE, "without, 15 steps": VERMILION}


def draw():
    """Draw demos/figures/speed.svg from the results."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.hashsalt": "npTRPO", "font.size": 9})
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    over_samples, over_parameters, shares = figure.subplots(1, 3)
    slopes = exponents()
    for axes, over in ((over_samples, "samples"), (over_parameters, "parameters")):
        for way, colour in COLOURS.items():
            axes.loglog(
                *curve(over, way), "o-", ms=3, color=colour, label=f"{way}: n^{slopes[over, way]:.2f}"
            )
        axes.set(title=f"An update over its {over}", xlabel=over, ylabel="seconds")
    solved = [row for row in read_rows("solver.csv") if row["damping"] == "0.1" and "warm" not in row["way"]]
    for row in solved:
        colour = VERMILION if row["way"] == "without" else BLUE
        style = {"1": ":", "2": "--", "4": "-"}[row["updates"][0]]
        shares.plot(
            STEPS, [float(row[f"share at {k}"]) for k in STEPS], style, marker="o", ms=3, color=colour
        )
    shares.set(title="Predicted improvement", xlabel="steps of conjugate gradients", ylabel="of the best")
    shares.set(ylim=(0, 1.05), xticks=STEPS)
    shares.text(5.5, 0.06, "beginning (dotted), middle\n(dashed) and end of training", fontsize=8)
    for axes in (over_samples, over_parameters, shares):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    over_samples.legend(frameon=False, fontsize=8)
    over_parameters.legend(frameon=False, fontsize=8)
    figure.savefig(FIGURE, metadata={"Date": None})
    print(f"drew {FIGURE.name}")
    scaling.draw()
