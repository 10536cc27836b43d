"""What `scripts/demo` does once the environment is there: real simulations, over HTTP, on a server of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "demo-output"
# The demo's server has its own data folder and profile: a user's own server is neither used nor touched.
os.environ["SIMYARD_DATA_DIR"] = str(OUTPUT / "server")
os.environ["SIMYARD_CONFIG"] = str(OUTPUT / "profile.json")

import matplotlib as mpl  # noqa: E402 - after the environment is set

mpl.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402

from cluster.head import free_port  # noqa: E402
from simulators import catalogue, images  # noqa: E402
from simulators.errors import RuntimeUnavailable  # noqa: E402
from simulators.expectation import deviations, load_example  # noqa: E402
from simyard import Client, Task  # noqa: E402
from simyard.errors import SimyardError  # noqa: E402

SIMYARD = str(Path(sys.executable).with_name("simyard"))
_began = time.monotonic()


def say(text: str = "") -> None:
    """Print a line at once."""
    print(text, flush=True)


def step(text: str) -> None:
    """Print a heading with the seconds since the start."""
    say(f"\n== {text}  [{time.monotonic() - _began:.0f} s]")


def show_command(*arguments: str) -> None:
    """Show the command that does the same, for the reader to take away."""
    say(f"   $ simyard {' '.join(arguments)}")


def check(task: Task, name: str) -> None:
    """End the demo when a task did not succeed, or gave other numbers than its example promises."""
    if task.status != "succeeded":
        say(b"".join(task.logs(follow=False, stream="stderr")).decode(errors="replace"))
        raise SystemExit(f"the task {task.id} ended as {task.status}: {task.reason}")
    example = load_example(catalogue.find(name))
    wrong = deviations(example, {number.table: task.table(number.table) for number in example.numbers})
    if wrong:
        raise SystemExit("unexpected numbers: " + "; ".join(wrong))


def run_swmm(client: Client) -> None:
    """Run the storm-water case natively, stream its log, and show its numbers and its hydrograph."""
    example = load_example(catalogue.find("swmm"))
    step("EPA SWMM: eight hours of rain on a small town")
    show_command("run swmm simulators/swmm/example -p input_file=model.inp --wait --download demo-output/swmm")
    task = client.run("swmm", example.folder, parameters=example.parameters)
    say(f"   task {task.id}; its log, as it comes:")
    last = b""
    for piece in task.logs():
        last += piece
        *lines, last = last.split(b"\n")
        for line in lines:
            say(f"   | {line.decode(errors='replace').rstrip()}")
    task.wait()
    check(task, "swmm")
    folder = OUTPUT / "swmm"
    task.download(folder)
    [summary] = task.table("summary").to_pylist()
    say(f"   continuity error, runoff    {summary['runoff_continuity_error']:8.3f} %")
    say(f"   continuity error, routing   {summary['routing_continuity_error']:8.3f} %")
    say(f"   peak flow at the outfall    {summary['peak_outfall_flow']:8.2f} {summary['flow_units']}"
        f"  at {summary['peak_outfall_time']:%H:%M}")  # fmt: skip
    plot = OUTPUT / "outfall.png"
    draw_outfall(task.table("nodes"), task.table("outfalls"), summary["flow_units"], plot)
    say(f"   outputs                     {folder.relative_to(ROOT)}")
    say(f"   hydrograph                  {plot.relative_to(ROOT)}")


def draw_outfall(nodes: pa.Table, outfalls: pa.Table, units: str, path: Path) -> None:
    """Write the plot of the flow at every outfall over time."""
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for name in outfalls["outfall"].to_pylist():
        rows = nodes.filter(pc.equal(nodes["node"], name))
        axes.plot(rows["time"].to_numpy(), rows["total_inflow"].to_numpy(), label=name, linewidth=1.8)
    axes.set(ylabel=f"flow [{units}]", title="Flow at the outfall")
    axes.xaxis.set_major_formatter(mpl.dates.DateFormatter("%H:%M"))
    axes.grid(visible=True, alpha=0.3)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def run_calculix(client: Client) -> None:
    """Run the cantilever in a container, where this machine has an engine."""
    step("CalculiX: a cantilever, in a container")
    try:
        engine = images.find_engine()
    except RuntimeUnavailable as error:
        say("   SKIPPED: neither podman nor docker works on this machine, so no container was run.")
        say(f"   {error}")
        return
    spec = catalogue.find("calculix")
    show_command("images build calculix")
    images.build_image(spec, spec.versions[0], engine=engine, say=lambda line: say(f"   {line}"))
    example = load_example(spec)
    show_command("run calculix simulators/calculix/example -p job=cantilever --wait")
    task = client.run("calculix", example.folder, parameters=example.parameters, runtime=engine.name)
    task.wait()
    check(task, "calculix")
    table = task.table("displacements")
    components = [name for name in table.column_names if name.startswith("u") or name in {"x", "y", "z"}]
    largest = {
        name: max(map(abs, table[name].to_pylist())) for name in components if pa.types.is_floating(table[name].type)
    }
    say(f"   engine                      {engine.name}")
    say("   largest displacement        " + ", ".join(f"{name} {value:.6g}" for name, value in largest.items()))
    say("   equals the reference numbers of simulators/calculix/example/expected.json")


def main() -> int:
    """Run the demo; returns its exit status."""
    OUTPUT.mkdir(exist_ok=True)
    step("starting a server on this machine")
    show_command("up --detach")
    up = subprocess.run(
        [SIMYARD, "up", "--detach", "--json", f"--port={free_port()}"], stdout=subprocess.PIPE, text=True, check=False
    )
    try:
        if up.returncode != 0:
            return up.returncode
        told = json.loads(up.stdout)
        say(f"   ready at {told['url']}")
        client = Client(url=told["url"], key=told["key"])
        run_swmm(client)
        run_calculix(client)
        step("all tasks of this server")
        show_command("tasks list")
        subprocess.run([SIMYARD, "tasks", "list", "--limit", "5"], check=True)
    except SimyardError as error:
        say(f"error: {error}")
        return 1
    finally:
        step("stopping the server")
        show_command("down")
        subprocess.run([SIMYARD, "down"], check=False)
    say(
        f"\nAll of it took {time.monotonic() - _began:.0f} s. The outputs are in demo-output/; remove it when you like."
    )
    say("Next: docs/tutorial.md runs the same by hand.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
