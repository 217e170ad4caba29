"""The mutants of a module: Cosmic Ray's operators and swapped names, without what no test could ever see."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.ast.ast_query import ASTQuery
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_item import MutationSpec, WorkItem
from parso.python.tree import Name, Number

SWAP = "swap"
Config = dict[str, Any]


class SwapName(Operator):
    """Replace a called name or attribute by another one."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.other: dict[str, list[str]] = {}
        for one, two in pairs:
            self.other.setdefault(one, []).append(two)
            self.other.setdefault(two, []).append(one)

    def mutation_positions(self, node: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Yield the positions of a name that has others, once for each of them."""
        if isinstance(node, Name) and not node.is_definition() and node.parent.type != "argument":
            for _ in self.other.get(node.value, []):
                yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Return the node with its other name."""
        node.value = self.other[node.value][index]
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return an example for Cosmic Ray."""
        return (Example("min(x)", "max(x)", operator_args={"pairs": [("min", "max")]}),)


def _operators(config: Config) -> Iterator[tuple[str, Operator]]:
    for name in config["operators"]:
        yield name, get_operator(f"core/{name}")()
    yield SWAP, SwapName(config["swaps"])


def mutants(path: str, source: str, config: Config) -> list[WorkItem]:
    """All mutants of a module, in the order of its lines."""
    tree, unseen = get_ast(source), _annotations(source)
    version = sha256(source.encode()).hexdigest()[:8]
    found = []
    for name, operator in _operators(config):
        places = ((node, *place) for node in ast_nodes(tree) for place in operator.mutation_positions(node))
        for occurrence, (node, start, end) in enumerate(places):
            if any(first <= start <= last for first, last in unseen) or _absorbs_one(node) or _dotted(node):
                continue
            spec = MutationSpec(
                module_path=path,
                operator_name=name,
                occurrence=occurrence,
                start_pos=start,
                end_pos=end,
                definition_name=ASTQuery(node).get_definition_name(),
            )
            found.append(WorkItem.single(f"{path}@{version}:{start[0]}:{start[1]}:{name}:{occurrence}", spec))
    return sorted(found, key=lambda item: item.mutations[0].start_pos)


def _annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the ranges of annotations and type aliases, which nothing runs."""
    found: list[ast.expr] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            found.append(node.annotation)
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            found.append(node.returns)
    return [((at.lineno, at.col_offset), (at.end_lineno or 0, at.end_col_offset or 0)) for at in found]


def _absorbs_one(node: Any) -> bool:
    """Return whether the node is a number so large that adding 1 does not change it."""
    return isinstance(node, Number) and float(ast.literal_eval(node.value)) + 1 == float(ast.literal_eval(node.value))


def _dotted(node: Any) -> bool:
    """Return whether the node catches exceptions by names with dots, which Cosmic Ray's operator parses wrongly."""
    return bool(node.type == "except_clause") and "." in node.get_code()


def sampled(items: list[WorkItem], each: int, seed: int) -> list[WorkItem]:
    """At most `each` of a module's mutants; the same ones for the same seed, and more with more."""
    if len(items) <= each:
        return items
    order = list(range(len(items)))
    random.Random(f"{seed} {items[0].mutations[0].module_path}").shuffle(order)  # noqa: S311 - a sample, no secret
    return [items[place] for place in sorted(order[:each])]


def mutated(source: str, spec: MutationSpec, config: Config) -> str:
    """Return the module's source with the mutation."""
    result: str | None = mutate_code(source, dict(_operators(config))[spec.operator_name], spec.occurrence)
    if result is None:
        raise ValueError(f"{spec.module_path}: no such mutation: {spec.operator_name} {spec.occurrence}")
    return result


def change(source: str, spec: MutationSpec, config: Config) -> tuple[str, str]:
    """Return (the line as it is, the line as the mutant has it)."""
    old, new = source.splitlines(), mutated(source, spec, config).splitlines()
    if len(new) < len(old):
        return old[spec.start_pos[0] - 1].strip(), ""
    for one, two in zip(old, new, strict=False):
        if one != two:  # Cosmic Ray sets a blank before what it puts in
            return one.strip(), re.sub(r"([\[(]) |  +", lambda found: found[1] or " ", two.strip())
    return old[spec.start_pos[0] - 1].strip(), ""


def run_at_import(source: str) -> set[int]:
    """Lines that run when the module is imported: a test that reaches any line of it depends on them."""
    lines = set(range(1, source.count("\n") + 2))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            lines -= set(range(node.body[0].lineno, (node.end_lineno or 0) + 1))
    return lines


def modules_of(root: Path, names: list[str]) -> list[str]:
    """Return the files that names of files and folders stand for."""
    found = []
    for name in names:
        path = root / name
        files = sorted(path.glob("*.py")) if path.is_dir() else [path]
        found += [str(file.relative_to(root)) for file in files]
    return found
