"""Mutation testing: do the tests notice when a line of the quantizer, the preprocessing or the manifest is wrong?

    scripts/mutation.sh                         # all that is not yet known; stop and start as you like
    scripts/mutation.sh --each 60 --seed 1      # another, larger sample of the quantizer
    scripts/mutation.sh --again                 # survivors once more, after tests were written
    scripts/mutation.sh --confirm               # survivors against every test of theirs, and those of `more_tests`
    scripts/mutation.sh --report                # results of what was tried so far, when it was stopped
    scripts/mutation.sh --table                 # docs/mutation-testing.md from robustness/results/mutation.json

What is mutated, how, and which tests are asked stands in robustness/mutation.toml; why survivors may live in
robustness/mutation_survivors.toml. Mutants and outcomes are a session of Cosmic Ray (build/mutation/session.sqlite),
which its `cr-report` and `cr-html` read, too. Linux, Python 3.11 or later.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import tomllib
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkResult
from mutation_mutants import change, modules_of, mutants, mutated, run_at_import, sampled
from mutation_process import ROOT, TOO_LONG, kill, preload, trace
from mutation_report import PAGE, RESULTS, summary, write_page

STATE = ROOT / "build" / "mutation"
TRACE_LIMIT, CONFIRM_LIMIT = 1800.0, 600.0  # seconds
NO_TEST = "no test reaches it"
Config = dict[str, Any]
Tests = dict[str, Any]


@dataclass(eq=False)
class Run:
    """The mutants of a group: what they share; with `every`, all are tried and not a sample."""

    database: WorkDB
    config: Config
    options: argparse.Namespace
    files: list[str]
    modules: list[str]  # of all groups
    every: bool

    def tests(self, path: str) -> Tests:
        """Return the tests of the group's files and the lines they reach; trace them when the first mutant asks."""
        found: Tests = {}
        for file in self.files:
            found |= _tests(file, path, self.modules)
        return found


def main() -> int:
    """Run what the arguments ask for."""
    options = _options()
    if options.table:
        write_page()
        return 0
    config = tomllib.loads((ROOT / "robustness" / "mutation.toml").read_text())
    STATE.mkdir(parents=True, exist_ok=True)
    database = WorkDB(STATE / "session.sqlite", WorkDB.Mode.create)
    if not options.report:
        preload(config["preload"])
    found: list[dict[str, Any]] = []
    modules = modules_of(ROOT, [name for group in config["group"] for name in group["modules"]])
    for group in config["group"]:
        chosen = [
            name
            for name in modules_of(ROOT, group["modules"])
            if not options.only or any(part in name for part in options.only)
        ]
        if chosen:
            files = group["tests"] + (group.get("more_tests", []) if options.confirm else [])
            run = Run(database, config, options, files, modules, every=group.get("all", False))
            found += [_module(name, run) for name in chosen]
    if not options.only:
        RESULTS.write_text(json.dumps(summary(found, options.each, options.seed), indent=1) + "\n")
        print(f"{RESULTS.relative_to(ROOT)} written; --table writes {PAGE.relative_to(ROOT)}", file=sys.stderr)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=25, metavar="N", help="at most so many mutants of a sampled module")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--only", nargs="+", metavar="PART", help="modules with this in their path; writes no results")
    parser.add_argument("--again", action="store_true", help="survivors once more")
    parser.add_argument("--confirm", action="store_true", help="survivors once more, without bounds on tests")
    parser.add_argument("--report", action="store_true", help="write the results of what was tried so far")
    parser.add_argument("--table", action="store_true", help="write the page from the results")
    return parser.parse_args()


def _tests(file: str, path: str, modules: list[str]) -> Tests:
    """Return the lines that each test of a file reaches; trace again if the file or the module `path` has changed."""
    kept = STATE / f"trace-{_version(file)}.json"
    known = json.loads(kept.read_text()) if kept.exists() else {"versions": {}}
    if known["versions"].get(path) != _version(path):
        print(f"tracing {file}", file=sys.stderr, flush=True)
        versions = {module: _version(module) for module in modules}
        ran = trace(modules, [file], TRACE_LIMIT)
        if ran.died is not None or not ran.value:
            raise SystemExit(f"{file}: {ran.died or 'no test passes'}; see {STATE / 'trace.log'}")
        known = {"versions": versions, "tests": ran.value}
        kept.write_text(json.dumps(known))
    tests: Tests = known["tests"]
    return tests


def _version(path: str) -> str:
    return sha256((ROOT / path).read_bytes()).hexdigest()[:16]


def _module(path: str, run: Run) -> dict[str, Any]:
    """Try the module's mutants that have no outcome yet, and count."""
    source, options = (ROOT / path).read_text(), run.options
    everything = mutants(path, source, run.config)
    items = everything if run.every else sampled(everything, options.each, options.seed)
    known = {item.job_id: result for item, result in run.database.completed_work_items}
    stored = {item.job_id for item in run.database.work_items}
    run.database.add_work_items(item for item in items if item.job_id not in stored)
    at_import, tests = run_at_import(source), None
    rows = []
    for item in items:
        spec, result = item.mutations[0], known.get(item.job_id)
        if result is None and options.report:
            continue
        if result is None or (_survived(result) and (options.again or options.confirm)):
            line, tests = spec.start_pos[0], tests or run.tests(path)
            asked, limit = _asked(run, tests, path, None if line in at_import else line)
            result = _tried(spec, source, asked, limit, run.config, first=_first(result))
            run.database.set_result(item.job_id, result)
            _say(spec, source, result, run.config)
        rows.append(_row(spec, source, result, run.config))
    return {"module": path, "mutants": len(everything), "rows": rows}


def _survived(result: WorkResult) -> bool:
    return bool(result.test_outcome == TestOutcome.SURVIVED)


def _first(result: WorkResult | None) -> str | None:
    """Return the outcome of the first run, before any test was written for it."""
    return None if result is None else str(json.loads(result.output)["first"])


def _asked(run: Run, tests: Tests, path: str, line: int | None) -> tuple[list[str], float]:
    """Choose the tests to run, and the seconds after which the mutant has run too long.

    The quickest are chosen; they run in the order of their files, the module's own first.

    Without bounds, every test that reaches the module is asked: what a cached helper of the tests reached counted for
    the first that called it only.
    """
    config, confirm = run.config, run.options.confirm
    reaching = {
        name: test["seconds"]
        for name, test in tests.items()
        if path in test["lines"] and (confirm or line is None or line in test["lines"][path])
    }
    asked, total = [], 0.0
    for name in sorted(reaching, key=lambda name: (reaching[name], name)):
        if not confirm and (reaching[name] > config["slowest_test"] or total > config["seconds_a_mutant"]):
            break
        asked.append(name)
        total += reaching[name]
    fixed, factor = config["time_limit"]
    files = list(dict.fromkeys(name.split("::")[0] for name in tests))
    asked.sort(key=lambda name: files.index(name.split("::")[0]))
    return asked, CONFIRM_LIMIT if confirm else fixed + factor * total


def _tried(
    spec: MutationSpec, source: str, asked: list[str], limit: float, config: Config, *, first: str | None
) -> WorkResult:
    """Run the tests on the mutant."""
    facts: dict[str, Any] = {"by": None, "seconds": 0.0, "asked": len(asked)}
    if asked:
        ran = kill(str(spec.module_path), mutated(source, spec, config), asked, limit)
        facts |= {"by": ran.value or ran.died, "seconds": round(ran.seconds, 1)}
    outcome = TestOutcome.KILLED if facts["by"] else TestOutcome.SURVIVED
    facts["first"] = first or str(outcome.value)
    return WorkResult(WorkerOutcome.NORMAL, json.dumps(facts), outcome, "\n".join(change(source, spec, config)))


def _row(spec: MutationSpec, source: str, result: WorkResult, config: Config) -> dict[str, Any]:
    facts = json.loads(result.output)
    if not _survived(result):
        return {"outcome": "timed out" if facts["by"] == TOO_LONG else "killed", "first": facts["first"]}
    old, new = change(source, spec, config)
    survivor = {"in": spec.definition_name, "line": spec.start_pos[0], "old": old, "new": new}
    survivor |= {"operator": spec.operator_name} | ({} if facts["asked"] else {"note": NO_TEST})
    return {"outcome": "survived", "first": facts["first"], "survivor": survivor}


def _say(spec: MutationSpec, source: str, result: WorkResult, config: Config) -> None:
    facts = json.loads(result.output)
    old, new = change(source, spec, config)
    verdict = "killed" if facts["by"] else "SURVIVED"
    print(f"{time.strftime('%H:%M:%S')} {verdict} {facts['seconds']:5.1f} s {spec.module_path}:{spec.start_pos[0]}")
    if not facts["by"]:
        print(f"    - {old}\n    + {new}   ({spec.operator_name}, {facts['asked']} tests)")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
