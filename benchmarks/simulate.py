"""`make simulate`: how to set up an endpoint, simulated on a day with peaks and on bursts.

Compares jobs in hand, where the weights are, idle timeouts and active workers by the wait until
an edit begins, by cost, and by how much of the paid time the GPU idles.

What no GPU has measured here is an assumption and a flag: give your own figures. The timings of an
answer (`timings` in the output of a job) can be given as a file.
"""

import argparse
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.setups import ACTIVE, IDLE_TIMEOUTS_S, IN_HAND, Row, compare, edit_of

# Of a GPU, when somebody has measured one.
_TIMINGS = Path(__file__).resolve().parent / "results" / "timings.json"


def main() -> int:
    """Prints the tables; writes `simulate.svg` and `simulate.json`."""
    options = make_parser().parse_args()
    if options.timings:
        measured = edit_of(json.loads(options.timings.read_text()))
        vars(options).update(asdict(measured))
    rows = list(compare(options))
    print(_assumptions(options))
    for name in dict.fromkeys(row.load for row in rows):
        print(_table(name, [row for row in rows if row.load == name]))
    options.into.mkdir(parents=True, exist_ok=True)
    _draw(rows, options.into / "simulate.svg")
    text = {"options": vars(options), "rows": [asdict(row) for row in rows]}
    (options.into / "simulate.json").write_text(json.dumps(text, indent=1, default=str) + "\n")
    print(f"\n{options.into / 'simulate.svg'}")
    return 0


def _assumptions(options: argparse.Namespace) -> str:
    return (
        f"{options.execute_s:g} s on the GPU an edit, {options.prepare_s:g} s before and "
        f"{options.finish_s:g} s after it; {options.weights_gb:g} GB of weights at "
        f"{options.baked_mb_per_s:g} MB/s from the image, {options.volume_mb_per_s:g} from a "
        f"volume; at most {options.most_workers} workers; {options.price_per_hour:g} an hour"
    )


def _table(load: str, rows: Sequence[Row]) -> str:
    lines = [
        f"\n{load}",
        f"{'':30}|{'1 job in hand':^33}|{'2 jobs in hand':^33}",
        f"{'weights':8}{'active':>7}{'idle timeout':>14} " + f"|{_HEAD}" * 2,
    ]
    for one, two in zip(rows[::2], rows[1::2], strict=True):
        lines.append(
            f"{one.weights:8}{one.active:>7}{one.idle_timeout_s:>12} s "
            f" |{_cells(one)}|{_cells(two)}"
        )
    return "\n".join(lines)


_HEAD = f"{'median':>8}{'p95':>8}{'cost':>8}{'idle':>8} "


def _cells(row: Row) -> str:
    return f"{row.median_s:>7.1f}s{row.p95_s:>7.0f}s{row.cost:>8.2f}{row.idle:>8.0%} "


def _draw(rows: Sequence[Row], path: Path) -> None:
    loads = list(dict.fromkeys(row.load for row in rows))
    plot, axes = pyplot.subplots(1, len(loads), figsize=(11, 4.2), layout="constrained")
    for load, one in zip(loads, axes, strict=True):
        _draw_load(one, load, [row for row in rows if row.load == load])
    axes[0].legend(fontsize=7)
    # Without the date and random ids, so that the same figures are the same file.
    with pyplot.rc_context({"svg.hashsalt": "simulate"}):
        plot.savefig(path, metadata={"Date": None})
    pyplot.close(plot)


def _draw_load(axes: Axes, load: str, rows: Sequence[Row]) -> None:
    for (weights, color), active, in_hand in itertools.product(
        (("baked", "tab:blue"), ("volume", "tab:orange")), ACTIVE, IN_HAND
    ):
        setup = (weights, active, in_hand)
        line = [row for row in rows if (row.weights, row.active, row.in_hand) == setup]
        axes.plot(
            [row.cost for row in line], [row.p95_s for row in line], color=color,
            marker="s" if active else "o", markerfacecolor=color if in_hand == 2 else "white",
            linestyle="-" if in_hand == 2 else ":",
            label=f"{weights}, {active} active, {in_hand} in hand",
        )  # fmt: skip
    axes.set_title(f"{load}: idle timeouts {', '.join(map(str, IDLE_TIMEOUTS_S))} s")
    axes.set_xlabel("cost of a thousand edits")
    axes.set_ylabel("wait until an edit begins, p95, s")
    axes.set_ylim(bottom=0)


def make_parser() -> argparse.ArgumentParser:
    """Its defaults are the assumptions."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.simulate", description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--seed", type=int, default=1, help="of the arrivals")
    add("--price-per-hour", type=float, default=1.0, help="of a worker; yours, in your currency")
    add("--execute-s", type=float, default=8.0, help="on the GPU, an edit; an assumption")
    add("--prepare-s", type=float, default=0.2, help="before the GPU, an edit; an assumption")
    add("--finish-s", type=float, default=0.5, help="after it, the sending too; an assumption")
    add("--timings", type=Path, metavar="FILE", help="an answer's timings, for these three",
        default=_TIMINGS if _TIMINGS.exists() else None)  # fmt: skip
    add("--boot-s", type=float, default=2.3, help="until ComfyUI answers; measured on two cores")
    add("--weights-gb", type=float, default=30.9, help="as models.lock has it")
    add("--volume-mb-per-s", type=float, default=300.0, help="RunPod names 200 to 400")
    add("--baked-mb-per-s", type=float, default=1100.0, help="of a local disk; an assumption")
    add(
        "--fetch-gap-s", type=float, default=0.1, help="from a job's end to the next; an assumption"
    )
    add("--queue-delay-s", type=float, default=4.0, help="RunPod's default")
    add("--most-workers", type=int, default=3, help="RunPod's default")
    add("--quiet-per-hour", type=float, default=20.0, help="jobs, when it is quiet")
    add("--peak-per-hour", type=float, default=600.0, help="jobs, at the peaks of the day")
    add("--bursts-per-hour", type=float, default=2.0, help="bursts")
    add("--jobs-per-burst", type=int, default=40, help="a second apart on average")
    add("--into", type=Path, default=Path("build/simulate"), help="folder for plot and rows")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
