"""Find imports of onnxruntime that do not pass the one place where its telemetry is switched off."""

import ast
import re
from pathlib import Path

PACKAGE = "onnxruntime"
_IMPORTERS = {"import_module", "__import__", "importorskip", "run_module", "reload"}
# In documents, scripts, and code in pieces: an import at the beginning of a line or behind what may stand before it.
_IN_TEXT = re.compile(rf"(?:^|[\n;:'\"`(])\s*(?:import|from)\s+(?:[\w.]+\s*,\s*)*{PACKAGE}\b|-m\s+{PACKAGE}\b")
_KINDS = {".py", ".sh", ".md", ".toml", ".yml", ".yaml", ".ipynb", ".txt", ""}
_FOLDERS = ("mbn_deploy", "benchmarks", "robustness", "scripts", "docs", "tests", ".ci")


def imports_onnxruntime(source: str) -> bool:
    """Whether Python code imports onnxruntime: by a statement, by name, or in code that it hands to another process."""
    return any(name.split(".")[0] == PACKAGE for name in _imported(ast.parse(source)))


def _imported(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Call) and _name(node.func) in _IMPORTERS:
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _in_string(node.value)
        elif isinstance(node, ast.JoinedStr):
            yield from _in_string("".join(p.value if isinstance(p, ast.Constant) else "x" for p in node.values))


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _in_string(text: str):
    """Yield the name of the package for the name of a module in it, and for code that imports it."""
    if re.fullmatch(rf"{PACKAGE}(\.\w+)+", text):
        yield text
    if PACKAGE not in text or "import" not in text:
        return
    try:
        tree = ast.parse(text)
    except SyntaxError:  # prose, or code in pieces
        if _IN_TEXT.search(text):
            yield PACKAGE
    else:
        yield from _imported(tree)


def importing_files(root: Path) -> list[str]:
    """List the files of a checkout that import onnxruntime, as paths below `root`."""
    paths = [*root.glob("*"), *(path for folder in _FOLDERS for path in (root / folder).rglob("*"))]
    found = []
    for path in paths:
        if not path.is_file() or path.suffix not in _KINDS or "results" in path.parts:
            continue
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        if PACKAGE in text and (imports_onnxruntime(text) if path.suffix == ".py" else _IN_TEXT.search(text)):
            found.append(path.relative_to(root).as_posix())
    return sorted(found)
