"""Thread counts: where they come from, records that fit exactly or not at all, files that are damaged or read-only."""

import hashlib
import json
import logging
from dataclasses import asdict, replace

import pytest
import runtime_models as models
from cli_run import run

from mbn_deploy.errors import InputError
from mbn_deploy.manifest import Manifest
from mbn_deploy.runtime import Classifier, threads
from mbn_deploy.runtime.backends import default_threads
from mbn_deploy.runtime.backends.modules import backend_version
from mbn_deploy.runtime.system.device import this_machine
from mbn_deploy.runtime.threads import (
    CACHE_LIMIT,
    ThreadRecord,
    best_count,
    cache_path,
    candidate_counts,
    read_cache,
    write_cache,
    write_to_bundle,
)

FILES = {"litert": ("tiny.tflite", models.float_tflite), "onnx": ("tiny.onnx", models.float_onnx)}
THREADS = 3  # no default on any machine: those are at most 4, and 3 only where there are 3 processors


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """The cache's file, in an empty folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mbn-deploy" / "threads.json"


@pytest.fixture(params=["litert", "onnx"])
def lone(request, tmp_path):
    """(a lone file, the interpreter that runs it)."""
    name, make = FILES[request.param]
    path = tmp_path / name
    path.write_bytes(make())
    return path, request.param


def record(path, backend):
    data = path.read_bytes()
    return ThreadRecord(
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        backend=backend,
        version=backend_version(backend),
        machine=this_machine().key,
        threads=THREADS,
        medians={"1": 0.002, "3": 0.001},
    )


def threads_of(path):
    with Classifier.open(path) as classifier:
        return classifier.info.threads, classifier.info.threads_from


def test_the_count_comes_from_the_option_the_record_or_the_default(lone):
    path, backend = lone
    assert threads_of(path) == (default_threads(), "default")
    assert write_cache([record(path, backend)]) is None
    assert threads_of(path) == (THREADS, "tuned")
    with Classifier.open(path, threads=2) as classifier:
        assert (classifier.info.threads, classifier.info.threads_from) == (2, "option")


@pytest.mark.parametrize(
    "changed",
    [{"sha256": "0" * 64}, {"size": 1}, {"backend": "tflite"}, {"version": "0.1"}, {"machine": "Linux/another"}],
    ids=lambda changed: next(iter(changed)),
)
def test_a_record_that_does_not_fit_is_not_used(lone, changed):
    path, backend = lone
    write_cache([replace(record(path, backend), **changed)])
    assert threads_of(path)[1] == "default"


def test_answers_do_not_depend_on_the_count(lone):
    path, backend = lone
    picture = models.pictures(1)[0]
    with Classifier.open(path) as classifier:
        before = classifier.classify(picture)
    write_cache([record(path, backend)])
    with Classifier.open(path) as classifier:
        assert [p.index for p in classifier.classify(picture)] == [p.index for p in before]


def test_a_bundle_and_a_lone_file_are_hashed_once(tmp_path, monkeypatch):
    manifest = models.write_bundle(
        tmp_path / "dist", [("a.tflite", "tflite", "float32", models.float_tflite(), models.TF, "nhwc")]
    )
    path, hashed, sha256 = tmp_path / "dist" / "a.tflite", [], hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", lambda data: hashed.append(len(data)) or sha256(data))
    threads_of(path)
    assert hashed == [manifest.files[0].size]
    write_cache([record(path, "litert")])
    hashed.clear()
    assert threads_of(tmp_path / "dist") == (THREADS, "tuned")
    assert hashed.count(manifest.files[0].size) == 1  # by the check against the manifest
    hashed.clear()
    assert threads_of(path) == (THREADS, "tuned")
    assert hashed == [manifest.files[0].size]


def test_run_says_where_the_count_came_from(tmp_path, lone):
    from PIL import Image

    path, backend = lone
    Image.fromarray(models.pictures(1)[0]).save(tmp_path / "picture.png")
    write_cache([record(path, backend)])
    done = run("run", path, tmp_path / "picture.png", "--json")
    assert done.exit_code == 0, done.stderr
    model = json.loads(done.stdout)["model"]
    assert (model["threads"], model["threads_from"]) == (THREADS, "tuned")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"schema_version": 2}', b'{"schema_version": 1}', b"\xff\xfe",
     b'{"schema_version": 1, "records": 3}'],
    ids=range(9),
)  # fmt: skip
def test_a_damaged_cache_is_named_and_ignored_and_written_anew(lone, cache, content, caplog):
    path, backend = lone
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert threads_of(path)[1] == "default"
    assert str(cache) in caplog.text
    assert write_cache([record(path, backend)]) is None
    assert threads_of(path) == (THREADS, "tuned")


@pytest.mark.parametrize(
    "wrong",
    [{"threads": 0}, {"threads": -1}, {"threads": True}, {"threads": 10**9}, {"threads": "4"}, {"threads": 2.0},
     {"sha256": None}, {"medians": []}, {"more": 1}],
    ids=str,
)  # fmt: skip
def test_a_record_of_wrong_values_is_ignored(lone, cache, wrong):
    path, backend = lone
    cache.parent.mkdir(parents=True)
    data = {"schema_version": 1, "records": [asdict(record(path, backend)) | wrong, 7, None]}
    cache.write_text(json.dumps(data))
    assert threads_of(path)[1] == "default"


def test_a_cache_that_cannot_be_read_or_written_is_no_failure(lone, cache, caplog):
    path, backend = lone
    cache.mkdir(parents=True)  # a folder where the file should be: unreadable for root, too
    with caplog.at_level(logging.WARNING):
        assert threads_of(path)[1] == "default"
    assert str(cache) in caplog.text
    assert str(cache) in write_cache([record(path, backend)])
    assert [p.name for p in cache.parent.iterdir()] == ["threads.json"]  # nothing half-written


def test_without_a_home_there_is_no_cache(monkeypatch, lone):
    path, backend = lone
    monkeypatch.setattr(threads, "cache_path", lambda: None)
    assert threads_of(path)[1] == "default"
    assert "XDG_CACHE_HOME" in write_cache([record(path, backend)])


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert cache_path() == tmp_path / "cache/mbn-deploy/threads.json"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_path() == tmp_path / ".cache/mbn-deploy/threads.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_path() == tmp_path / ".cache/mbn-deploy/threads.json"


def test_a_new_record_replaces_the_old_one_and_the_cache_stays_small(lone):
    path, backend = lone
    first = replace(record(path, backend), version="0.1")
    write_cache([replace(first, sha256=f"{n:064}") for n in range(CACHE_LIMIT + 5)])
    assert len(read_cache()) == CACHE_LIMIT
    write_cache([first])
    write_cache([record(path, backend)])
    assert [r for r in read_cache() if r.sha256 == first.sha256] == [record(path, backend)]
    assert len(read_cache()) == CACHE_LIMIT


def test_a_bundle_carries_records_to_other_machines_of_the_kind(tmp_path, cache):
    models.write_bundle(
        tmp_path / "dist", [("a.tflite", "tflite", "float32", models.float_tflite(), models.TF, "nhwc")]
    )
    manifest = tmp_path / "dist" / "manifest.json"
    models.edit_manifest(tmp_path / "dist", lambda data: data.update(later={"kept": True}))
    own = record(tmp_path / "dist" / "a.tflite", "litert")
    write_to_bundle(tmp_path / "dist", [own])
    write_to_bundle(tmp_path / "dist", [replace(own, machine="Linux/another", threads=1)])
    assert not cache.exists()
    assert threads_of(tmp_path / "dist") == (THREADS, "tuned")
    assert Manifest.from_json(manifest.read_bytes()).threads
    assert json.loads(manifest.read_text())["later"] == {"kept": True}
    write_cache([replace(own, threads=2)])
    assert threads_of(tmp_path / "dist") == (2, "tuned")  # the machine's own measurement wins
    assert sorted(p.name for p in (tmp_path / "dist").iterdir()) == ["a.tflite", "labels.txt", "manifest.json"]


def test_what_is_no_manifest_is_not_written_to(tmp_path):
    for text in ("[]", '{"metrics": {"loss": NaN}}'):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(InputError, match=r"manifest\.json"):
            write_to_bundle(tmp_path, [])
        assert (tmp_path / "manifest.json").read_text() == text


def test_counts_that_are_measured():
    assert candidate_counts(1) == (1,)
    assert candidate_counts(4) == (1, 2, 3, 4)
    assert candidate_counts(20) == (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20)


def test_the_fewest_threads_that_are_as_fast_win():
    assert best_count({1: 2.0, 2: 1.01, 3: 1.0, 4: 1.2}) == 2
    assert best_count({1: 1.0, 2: 1.0}) == 1
    assert best_count({1: 2.0, 4: 1.0}) == 4


def test_versions_of_interpreters():
    assert backend_version("litert")
    assert backend_version("onnx").count(".") == 2
