"""What a run found, held against its targets: rows, a table, a picture, a JSON document."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from msgspec import Struct, to_builtins
from rich.console import Console
from rich.table import Table

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Found = Mapping[str, float]


class Target(Struct, frozen=True):
    """One promise: a figure that travels between machines, and the bound that it must keep."""

    name: str
    figure: float
    bound: float
    at_most: bool
    unit: str
    of: str

    @property
    def met(self) -> bool:
        """Whether the bound is kept."""
        return self.figure <= self.bound if self.at_most else self.figure >= self.bound


def arguments(document: str | None, seconds: float, each: str) -> argparse.Namespace:
    """What a benchmark may be told: how long it measures, and whether a missed target fails it."""
    parser = argparse.ArgumentParser(description=(document or "").splitlines()[0])
    parser.add_argument(
        "--seconds", type=float, default=seconds, help=f"for each {each} ({seconds:g})"
    )
    parser.add_argument("--strict", action="store_true", help="exit code 1 if a target is missed")
    return parser.parse_args()


def targets(found: Found) -> list[Target]:
    """The promises of one node, from one run's figures."""
    above_ms = found["latency_1_p50_ms"] - found["fdatasync_1k_ms"]
    return [
        _ratio("produce, 1 MiB batches", found["produce_1024k_mb_s"], found["tls_receive_mb_s"],
               0.5, "of the TLS receive limit"),
        _ratio("fetch, 1 MiB batches", found["fetch_1024k_mb_s"], found["tls_send_mb_s"],
               0.5, "of the TLS send limit"),
        _ratio("produce, 1 KiB batches, 8 connections x 5", found["produce_1k_batches_s"],
               found["tls_echo_requests_s"], 0.4, "of the TLS echo rate"),
        Target("one 1 KiB produce at a time, p50", above_ms, 1.2, True, "ms", "above fdatasync"),
    ]  # fmt: skip


def _ratio(name: str, figure: float, limit: float, bound: float, of: str) -> Target:
    return Target(name, figure / limit, bound, False, "", of)


def show(console: Console, found: Found, promised: Sequence[Target], sizes: Sequence[int]) -> None:
    """The three tables of a run."""
    console.print(_machine_table(found), _appliance_table(found, sizes), _target_table(promised))


def print_targets(console: Console, promised: Sequence[Target]) -> None:
    """The targets alone."""
    console.print(_target_table(promised))


def _machine_table(found: Found) -> Table:
    table = Table("limit of this machine", "figure", "server CPU", "load CPU", title="Machine")
    for name, label, unit in (
        ("seal_mb_s", "AES-256-GCM, 1 MiB", "MB/s"),
        ("tls_receive_mb_s", "TLS receive, our stack", "MB/s"),
        ("tls_send_mb_s", "TLS send, our stack", "MB/s"),
        ("tls_echo_requests_s", "TLS echo, 1 KiB, 8 x 5", "requests/s"),
        ("fdatasync_1k_ms", "fdatasync after 1 KiB, p50", "ms"),
        ("append_4m_mb_s", "append 4 MiB and fdatasync", "MB/s"),
    ):
        table.add_row(label, f"{found[name]:,.4g} {unit}", *_cpu(found, name.rsplit("_", 2)[0]))
    return table


def _appliance_table(found: Found, sizes: Sequence[int]) -> Table:
    table = Table("appliance", "MB/s", "batches/s", "server CPU", "load CPU", title="Appliance")
    for what in ("produce", "fetch"):
        for size in sizes:
            key = f"{what}_{size >> 10}k"
            rates = f"{found[f'{key}_mb_s']:,.4g}", f"{found[f'{key}_batches_s']:,.0f}"
            table.add_row(f"{what}, {size >> 10} KiB batches", *rates, *_cpu(found, key))
    for clients in (1, 64):
        key = f"latency_{clients}"
        label = f"acknowledged, {clients} client{'s' * (clients > 1)}, 1 KiB"
        times = f"p50 {found[f'{key}_p50_ms']:.2f} ms", f"p99 {found[f'{key}_p99_ms']:.2f} ms"
        table.add_row(label, *times, *_cpu(found, key))
    idle = f"{found['idle_mb']:.0f} MB", f"{found['idle_cpu_percent']:.1f}% of a core"
    table.add_row("idle", *idle, "", "")
    return table


def _cpu(found: Found, key: str) -> tuple[str, str]:
    names = f"{key}_server_cpu_s", f"{key}_load_cpu_s"
    server, load = (f"{found[name]:.2f} s" if name in found else "" for name in names)
    return server, load


def _target_table(promised: Sequence[Target]) -> Table:
    table = Table("target", "figure", "bound", "", title="Targets")
    for target in promised:
        sign = "≤" if target.at_most else "≥"
        met = "[green]met[/green]" if target.met else "[red]not met[/red]"
        bound = f"{sign} {target.bound} {target.unit} {target.of}".replace("  ", " ")
        table.add_row(target.name, f"{target.figure:.2f} {target.unit}", bound, met)
    return table


def write(folder: Path, found: Found, promised: Sequence[Target], sizes: Sequence[int]) -> None:
    """`latest.json` with figures and targets, `latest.png` with the ratios and the rates."""
    folder.mkdir(exist_ok=True)
    rows = [to_builtins(target) | {"met": target.met} for target in promised]
    document = {"targets": rows, "found": dict(found)}
    (folder / "latest.json").write_text(json.dumps(document, indent=2) + "\n")
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    _draw_targets(left, promised)
    _draw_rates(right, found, sizes)
    figure.savefig(folder / "latest.png", dpi=120)


def _draw_targets(axes: Axes, promised: Sequence[Target]) -> None:
    """Each figure as a share of its bound: past the line is kept."""
    shares = [t.bound / t.figure if t.at_most else t.figure / t.bound for t in promised]
    names = [f"{t.name}\n{t.figure:.2f} {t.unit} {t.of}" for t in promised]
    colours = ["tab:green" if target.met else "tab:red" for target in promised]
    axes.barh(names, shares, color=colours)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlim(0, max(2.0, *shares) * 1.05)
    axes.set_xlabel("share of the target (right of the line: met)")


def _draw_rates(axes: Axes, found: Found, sizes: Sequence[int]) -> None:
    """MB/s over the size of a batch, with the limits of the stack as lines."""
    labels = [f"{size >> 10} KiB" for size in sizes]
    for what, limit, colour in (
        ("produce", "tls_receive_mb_s", "tab:blue"),
        ("fetch", "tls_send_mb_s", "tab:orange"),
    ):
        rates = [found[f"{what}_{size >> 10}k_mb_s"] for size in sizes]
        axes.plot(labels, rates, marker="o", color=colour, label=what)
        axes.axhline(found[limit], color=colour, linestyle="--", linewidth=1,
                     label=f"limit of TLS for {what}")  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylabel("MB/s")
    axes.set_xlabel("batch")
    axes.legend()
