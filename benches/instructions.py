"""Count the instructions of the parts of the core under valgrind, and write them as a table.

Valgrind knows no AVX-512, so this is the AVX2 path, or that which OTBR_FAST_SIMD names. Counts
repeat to a fraction of a per cent, whatever else the machine does.

    python benches/instructions.py
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "instructions.md"


def binary() -> str:
    """Build the counted program."""
    command = ["cargo", "bench", "--bench", "instructions", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    messages = [json.loads(line) for line in lines.splitlines()]
    built = [m["executable"] for m in messages if m.get("target", {}).get("name") == "instructions"]
    return str(built[-1])


def count(program: str, case: str, environment: dict[str, str]) -> int:
    """Count the instructions of one case."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "valgrind",
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=*instructions*counted*",
            f"--callgrind-out-file={folder}/out",
            program,
            case,
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None or int(found[1]) == 0:
        raise SystemExit(f"valgrind counted nothing of {case!r}:\n{done.stderr}")
    return int(found[1])


def main() -> None:
    """Count all, and write the table."""
    path = os.environ.get("OTBR_FAST_SIMD") or "avx2"
    environment = os.environ | {"OTBR_FAST_SIMD": path}
    program = binary()
    listed = subprocess.run([program], check=True, capture_output=True, text=True, env=environment)
    lines = [
        "# Instructions of the parts",
        "",
        f"Written by `python benches/instructions.py`: one thread, path {path},",
        "counted by callgrind in a second run of each part.",
        "",
        "| part | million instructions |",
        "|---|---:|",
    ]
    for case in listed.stdout.splitlines():
        lines.append(f"| {case} | {count(program, case, environment) / 1e6:.2f} |")
        print(lines[-1], file=sys.stderr)
    beside = DOCUMENT.with_suffix(".tmp")
    beside.write_text("\n".join(lines) + "\n")
    beside.replace(DOCUMENT)


if __name__ == "__main__":
    main()
