"""The results of mutation testing: data, the reasons why survivors may live, and the page made of both."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import tomllib

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "robustness" / "results" / "mutation.json"
REASONS = ROOT / "robustness" / "mutation_survivors.toml"
PAGE = ROOT / "docs" / "mutation-testing.md"
OUTCOMES = ("killed", "timed out", "survived")
Rows = list[dict[str, Any]]

HEAD = """\
# Are the tests any good?

Coverage tells that a line ran, not that a test would notice if it were wrong. Mutation testing makes lines wrong, one
at a time (`<` becomes `<=`, `/` becomes `*`, a number grows by one, a `min` becomes a `max`), and runs the tests on
each such *mutant*: a test should fail, which *kills* it. Where a test was missing, it was written; every other survivor
is listed below with the reason why it may live.

`scripts/mutation.sh` runs it, with the operators of [Cosmic Ray](https://cosmic-ray.readthedocs.io/) and swapped names
of functions; `robustness/mutation.toml` lists the operators and the test files. mutmut 3 is quicker to set up, but it
skips decorated functions and everything at the level of a module, which here are properties and tables.

- All mutants of the preprocessing and of the manifest are tried, and a sample of each module of the quantizer (at most
  {each}, seed {seed}); the table gives how many were tried so far. Annotations are skipped: nothing runs them.
- A mutant is loaded by the import system of a process that is forked from one with TensorFlow in it; no file is
  changed, and it costs 0.2 s beside its tests. Tests that start processes of their own test the real code, and kill
  nothing.
- The tests of the module's group that reach the mutant's line are run, the quickest first, for {budget:.0f} s of
  processor time; none that takes more than {slowest:.0f} s. A survivor is a mutant that these tests miss: slower tests,
  of whole networks and real photographs, may notice it. A mutant that runs without end counts as killed, in its own
  column.
- "At first" is the share that was killed when a mutant was tried for the first time. Most tests of the manifest and of
  the arithmetic of `quantize/` and `diagnose/` were written earlier, with such mutants in mind. So only the
  preprocessing shows what the tests were worth before mutation testing.

The results are those of commit `{commit}` of {date}, and so are the names of modules and the lines: later versions may
have renamed, moved or deleted them.

"""


def summary(found: Rows, each: int, seed: int) -> dict[str, Any]:
    """Summarize a run: the commit and its date, counts by module, and every survivor.

    `survived_at_first` counts before tests were written for what survived.
    """
    described = subprocess.run(
        ["git", "log", "-1", "--format=%cs %h"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    committed, commit = described.stdout.split()
    modules = {}
    for module in found:
        rows = module["rows"]
        counts = Counter(row["outcome"] for row in rows)
        survivors = [row["survivor"] for row in rows if row["outcome"] == "survived"]
        modules[module["module"]] = {
            "mutants": module["mutants"],
            "tried": len(rows),
            **{outcome.replace(" ", "_"): counts[outcome] for outcome in OUTCOMES},
            "survived_at_first": sum(row["first"] == "survived" for row in rows),
            "survivors": survivors,
        }
    return {"date": committed, "commit": commit, "each": each, "seed": seed, "modules": modules}


def reasons() -> dict[tuple[str, str, str], str]:
    """Return the reason why each survivor may live, by module, line and the mutant's line."""
    listed = tomllib.loads(REASONS.read_text()) if REASONS.exists() else {}
    return {
        (module, change["old"], change["new"]): entry["reason"]
        for module, entries in listed.items()
        for entry in entries
        for change in entry["changes"]
    }


def page() -> str:
    """Return the page's text."""
    data = json.loads(RESULTS.read_text())
    config = tomllib.loads((ROOT / "robustness" / "mutation.toml").read_text())
    head = HEAD.format(
        date=data["date"],
        commit=data["commit"],
        each=data["each"],
        seed=data["seed"],
        budget=config["seconds_a_mutant"],
        slowest=config["slowest_test"],
    )
    return head + _table(data["modules"]) + _survivors(data["modules"])


def _table(modules: dict[str, Any]) -> str:
    lines = [
        "| module | mutants | tried | killed | ran too long | survived | killed, % | at first, % |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [_line(f"`{name}`", module) for name, module in modules.items()]
    keys = ("mutants", "tried", "killed", "timed_out", "survived", "survived_at_first")
    lines.append(_line("all", {key: sum(module[key] for module in modules.values()) for key in keys}))
    return "\n".join(lines) + "\n"


def _line(name: str, module: dict[str, Any]) -> str:
    tried = module["tried"]
    shares = [100 * (tried - module[key]) / tried for key in ("survived", "survived_at_first")] if tried else [0.0, 0.0]
    counts = [module[key] for key in ("mutants", "tried", "killed", "timed_out", "survived")]
    return (
        f"| {name} | " + " | ".join([*map(str, counts), *(f"{share:.1f}" if tried else "–" for share in shares)]) + " |"
    )


def _survivors(modules: dict[str, Any]) -> str:
    known = reasons()
    parts = ["\n## Survivors, and why they may live\n"]
    for name, module in modules.items():
        if module["survivors"]:
            parts.append(f"\n### {name.removeprefix('mbn_deploy/')}\n")
            by_reason: dict[str, Rows] = {}
            for row in module["survivors"]:
                why = known.get((name, row["old"], row["new"]), "Not yet looked at.")
                by_reason.setdefault(why, []).append(row)
            parts += [_reason(why, rows) for why, rows in by_reason.items()]
    return "\n".join(parts)


def _reason(why: str, rows: Rows) -> str:
    changes = "\n".join(f"- {row['old']}\n+ {row['new']}" for row in rows)
    return f"{why}\n\n```diff\n{changes}\n```\n"


def write_page() -> None:
    """Write the page."""
    PAGE.write_text(page())
