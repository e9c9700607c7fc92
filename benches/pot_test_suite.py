"""Run POT's own tests with our `emd`, `emd2`, `sinkhorn` and `sinkhorn2` in the places of POT's.

    python benches/pot_test_suite.py [--sdist pot-0.9.7.post1.tar.gz] [--files test_ot.py ...]

The tests come from the sdist of the installed POT version, fetched by pip. Each test that calls
one of the functions is run with POT's and with ours. A test that passes only with POT's must be
named in docs/pot-migration.md, with the reason; the exit status is 1 if one is not, or if a named
one passes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

EXPLANATIONS = Path(__file__).parents[1] / "docs" / "pot-migration.md"
NOT_RUN = ("test_helpers.py",)  # it imports a file that the sdist leaves out

Outcomes = dict[str, dict[str, Any]]


def fetch(folder: Path) -> Path:
    """Download the sdist; pip builds its metadata, in an environment of its own."""
    requirement = f"POT=={version('POT')}"
    options = ["--no-deps", "--no-binary", "POT", "--quiet", "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, requirement], check=True)
    (sdist,) = folder.glob("*.tar.gz")
    return sdist


def unpack_tests(sdist: Path, folder: Path) -> Path:
    """Unpack only the tests: POT's code is the installed one."""
    with tarfile.open(sdist) as archive:
        tests = [member for member in archive if Path(member.name).parts[1:2] == ("test",)]
        archive.extractall(folder, tests, filter="data")
    (tests_folder,) = folder.glob("*/test")
    return tests_folder


def run(tests: Path, selected: Iterable[str], ours: bool) -> Outcomes:
    report = tests / f"report-{'ours' if ours else 'pot'}.json"
    command = [sys.executable, "-m", "pytest", "-p", "pot_judge", "--judge-report", str(report)]
    command += ["--judge-ours"] if ours else []
    command += ["-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider", "-q", "--tb=no"]
    command += ["--disable-warnings", "-r", "N", *selected]
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment["CUDA_VISIBLE_DEVICES"] = ""  # ours run on the CPU
    done = subprocess.run(command, cwd=tests, env=environment)
    if done.returncode not in (0, 1):  # 1: some tests failed, which is for us to judge
        raise SystemExit(f"pytest ended with status {done.returncode}: {' '.join(command)}")
    outcomes: Outcomes = json.loads(report.read_text())
    return outcomes


def function_name(test: str) -> str:
    """`test_emd` of `test_ot.py::test_emd[torch]`."""
    return test.split("::")[1].split("[")[0]


def judge(theirs: Outcomes, ours: Outcomes, explained: set[str], console: Console) -> bool:
    """Print what passes with both, and every difference; whether all of them are explained."""
    relevant = [t for t in theirs if theirs[t]["outcome"] == "passed"]
    differing = [t for t in relevant if ours[t]["outcome"] != "passed"]
    table = Table("file", "passed with POT", "passed with ours", "differing")
    for file in sorted({t.split("::")[0] for t in relevant}):
        counts = [sum(t.startswith(f"{file}::") for t in group) for group in (relevant, differing)]
        table.add_row(file, str(counts[0]), str(counts[0] - counts[1]), str(counts[1]))
    table.add_section()
    passed = len(relevant) - len(differing)
    table.add_row("all", str(len(relevant)), str(passed), str(len(differing)))
    console.print(table)
    for name, tests in groupby(sorted(differing, key=function_name), key=function_name):
        known = "explained" if name in explained else "UNEXPLAINED"
        reasons = {ours[test]["why"].partition("\n")[0] for test in tests}
        console.print(f"{known}: {name}: {' | '.join(sorted(reasons))}", markup=False)
    run_here = {function_name(t) for t in relevant}
    obsolete = (explained & run_here) - {function_name(t) for t in differing}
    for name in sorted(obsolete):
        console.print(f"PASSES, but {EXPLANATIONS.name} explains why not: {name}", markup=False)
    return not obsolete and all(function_name(t) in explained for t in differing)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sdist", type=Path, help="POT's sdist, instead of downloading it")
    parser.add_argument("--files", nargs="+", help="only these test files, e.g. test_ot.py")
    args = parser.parse_args()
    explained = set(re.findall(r"`(test_\w+)`", EXPLANATIONS.read_text()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tests = unpack_tests(args.sdist or fetch(folder), folder)
        every = sorted(path.name for path in tests.glob("test_*.py"))
        files = args.files or [file for file in every if file not in NOT_RUN]
        ours = run(tests, files, ours=True)
        relevant = [test for test in ours if ours[test]["calls"]]
        if not relevant:
            parser.error(f"no test of {', '.join(files)} calls one of our functions")
        theirs = run(tests, relevant, ours=False)
    return 0 if judge(theirs, ours, explained, Console()) else 1


if __name__ == "__main__":
    sys.exit(main())
