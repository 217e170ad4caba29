"""The documentation: its code blocks run, its references are what the program and the format say, the site builds."""

import dataclasses
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cli_run import run
from made_wheels import offline_index

import mbn_deploy
from mbn_deploy import answers, manifest, runtime
from mbn_deploy.runtime import open_bundle

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path[:0] = [str(DOCS / "extensions"), str(ROOT / "scripts")]
import docs_reference  # noqa: E402
from blocks import BlockError, blocks_of, outputs, with_outputs  # noqa: E402

PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
FORMAT = (DOCS / "reference" / "bundle-format.md").read_text(encoding="utf-8")


def text_of(page):
    return (DOCS / page).read_text(encoding="utf-8")


RUN = [page for page in PAGES if blocks_of(text_of(page), page)]
LIGHT = [page for page in RUN if page.startswith("ideas/") or page in ("limits.md", "stability.md", "which-file.md")]


# Extras that are for x86-64 Linux only, and the pages that show them.
NEEDED = {
    "how-to/mediapipe.md": "mediapipe",
    "how-to/microcontroller.md": "tflite_micro",
    "tutorial.md": "tflite_micro",
}


def need(*pages):
    for page in pages:
        if page in NEEDED and importlib.util.find_spec(NEEDED[page]) is None:
            pytest.skip(f"{page} shows {NEEDED[page]}, which is not installed")


@pytest.fixture(scope="session")
def block_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("blocks")


@pytest.mark.parametrize("page", [pytest.param(page, marks=() if page in LIGHT else pytest.mark.slow) for page in RUN])
def test_the_blocks_of_a_page_run(page, block_cache, tmp_path):
    need(page)
    found = blocks_of(text_of(page), page)
    made = outputs(found, page, cache=block_cache, environment=offline_index(tmp_path))
    assert len(made) == len(found)
    assert all(output or block.show for block, output in zip(found, made, strict=True) if "print(" in block.code)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(block_cache, tmp_path):
    need(*NEEDED)
    pytest.importorskip("furo", reason="the group `docs` is not installed")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "--fail-on-warning", "--keep-going", "--quiet"]
    options = ["-D", f"blocks_cache={block_cache}", "-d", tmp_path / "doctrees"]
    made = subprocess.run([*command, *options, DOCS, tmp_path / "site"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= len(PAGES)
    for page in pages:  # nothing is fetched when a page is viewed
        html = page.read_text(encoding="utf-8")
        fetched = re.findall(
            r"<(?:script|img|iframe|source)[^>]*\ssrc=\"(https?:[^\"]*)|<link[^>]*href=\"(https?:[^\"]*)", html
        )
        assert fetched == [], page


def test_every_page_can_be_reached():
    listed = {
        (Path(page).parent / entry).as_posix()
        for page in PAGES
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", text_of(page), re.DOTALL)
        for entry in tree.splitlines()
        if entry and not entry.startswith(":")
    }
    pages = {page.removesuffix(".md") for page in PAGES} - {"index"}
    linked = {page for page in pages if not re.match(r"---\norphan: true", text_of(f"{page}.md"))}  # others by a link
    assert linked <= listed <= pages


def test_commands_that_are_shown_exist_with_their_options():
    known = docs_reference.commands(docs_reference.app)
    seen = set()
    for page in PAGES:
        for block in re.findall(r"^```(?:sh|console)[^\n]*\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE):
            for line in re.findall(r"\bmbn-deploy ([^\n|;&>]*)", block.replace("\\\n", " ")):
                words = shlex.split(line)
                name = " ".join(words[:2]) if words and words[0] == "bundle" else words[0] if words else ""
                if name.startswith("["):  # the extra of `pip install mbn-deploy[litert]`
                    continue
                assert name in known, f"{page}: {line}"
                seen.add(name)
                text = run(*name.split(), "--help").stdout
                for option in (word for word in words if word.startswith("--")):
                    assert re.search(rf"(^|[ ,]){option}[ ,\n]", text, re.MULTILINE), f"{page}: {option}"
    assert len(seen) > 8


def test_blocks_that_are_not_run_are_for_other_machines():
    """Whatever a shell here can do is a `sh` block, which is run. A prompt names the machine, or the page does."""
    elsewhere = {"imagenet-sweep.md"}  # a plan for many machines
    shown = {page: re.findall(r"^```console\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE) for page in PAGES}
    lines = [line for page in PAGES if page not in elsewhere for block in shown[page] for line in block.splitlines()]
    assert lines
    assert [line for line in lines if not line.startswith("pi$ ")] == []


def test_the_reference_of_commands_is_what_the_program_says():
    assert docs_reference.PAGE.read_text(encoding="utf-8") == docs_reference.page(), "run scripts/docs_reference.py"


def test_the_reference_of_commands_names_every_option():
    names = list(docs_reference.commands(docs_reference.app))
    sections = dict(
        re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text_of("reference/commands.md"), re.DOTALL | re.MULTILINE)
    )
    assert list(sections) == names
    for name in names:
        shown = set(re.findall(r"^  (?:-\w, )?(--[a-z0-9-]+)", run(*name.split(), "--help").stdout, re.MULTILINE))
        assert shown - {"--help"} == set(re.findall(r"^`(?:-\w, )?(--[a-z0-9-]+)", sections[name], re.MULTILINE))


def test_the_reference_of_python_names_what_is_public():
    text = text_of("reference/python.md")
    named = set(re.findall(r"auto(?:class|function):: mbn_deploy\.(?:pipeline\.|runtime\.|manifest\.)?(\w+)", text))
    assert named >= {*mbn_deploy.__all__, *runtime.__all__} - {
        "__version__",
        "Answer",
    }  # Answer is a union, told in a sentence


def rows(text):
    return [cell for line in text.splitlines() for cell in re.findall(r"^\| `(\w+)` \|", line)]


def table(heading):
    return rows(re.search(rf"^##+ {heading}\n(.*?)(?=^##|\Z)", FORMAT, re.DOTALL | re.MULTILINE)[1])


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        (r"manifest\.json", manifest.Manifest),
        ("An entry of `files`", manifest.ModelFile),
        ("A tensor", manifest.TensorInfo),
        ("`preprocess`", manifest.Preprocess),
        ("Inside a model file", manifest.Description),
    ],
)
def test_the_format_documents_every_key(heading, kind):
    assert sorted(table(heading)) == sorted(field.name for field in dataclasses.fields(kind))


def test_the_format_documents_the_values_that_keys_take():
    kinds = (manifest.Resize, manifest.Filter, manifest.Channels, manifest.Layout, manifest.FileFormat)
    for values in (*kinds, answers.Scores, answers.Meaning):
        for value in values.__args__:
            assert f"`{value}`" in FORMAT
    assert f"| `schema_version` | integer | {manifest.SCHEMA_VERSION}:" in FORMAT


def test_the_format_is_that_of_a_bundle(exported):
    import numpy as np

    folder, _ = exported
    said = json.loads((folder / "manifest.json").read_text())
    assert sorted(said) == sorted(table(r"manifest\.json"))
    assert sorted(said["files"][0]) == sorted(table("An entry of `files`"))
    for key in ("source", "quantization", "metrics"):
        inner = {
            name for name in said[key] if name in ("recipe", "calibration", "reference", "images", "weights_sha256")
        }
        assert inner
        assert all(f"`{name}`" in FORMAT for name in inner)
    with np.load(folder / "golden.npz", allow_pickle=False) as golden:
        file = open_bundle(folder).manifest.files[0].path
        documented = {
            name.replace("FILE", file) for name in re.findall(r"^\| `(\S*FILE|pixels)` \|", FORMAT, re.MULTILINE)
        }
        # Only where kernels could not run every operation alone, and of dynamic-range files.
        optional = {f"recorded:{file}", f"machine:{file}"}
        assert documented - optional == {name for name in golden.files if name == "pixels" or name.endswith(file)}
        patterns = [
            name.replace("PRECISION", "int8(-mixed)?|int16x8").replace("TENSOR", ".+")
            for name in re.findall(r"^\| `(\S*PRECISION\S*)` \|", FORMAT, re.MULTILINE)
        ]
        others = set(golden.files) - {"pixels", *(n for n in golden.files if n.endswith((".tflite", ".onnx")))}
        assert all(any(re.fullmatch(pattern, name) for pattern in patterns) for name in others)


def test_outputs_stand_behind_their_blocks():
    page = "a\n\n```python\nprint('`'*3)\n```\nb\n```sh hidden\ntrue\n```\n```python quiet\nprint(1)\n```\n"
    found = blocks_of(page, "p")
    assert [(block.language, block.line, block.show) for block in found] == [
        ("python", 3, ""),
        ("sh", 7, "hidden"),
        ("python", 10, "quiet"),
    ]
    shown = with_outputs(page, found, ["```", "", "1"])
    assert "````{code-block} text\n:class: output\n\n```\n````\n" in shown
    assert "hidden" not in shown
    assert "true" not in shown
    assert shown.endswith("```python\nprint(1)\n```\n")


def test_a_block_that_fails_is_named(tmp_path):
    found = blocks_of("\n```python\nx = 1\n```\n```sh\nfalse\n```\n", "page.md")
    with pytest.raises(BlockError, match=r"page\.md:5: exit code 1"):
        outputs(found, "page.md", cache=tmp_path, environment={})
    assert not list(tmp_path.glob("*.json"))
    with pytest.raises(BlockError, match=r"page\.md:1: the block has no end"):
        blocks_of("```sh\ntrue\n", "page.md")
