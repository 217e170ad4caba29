"""Samples of operations: an operation whose kernel aborts ends neither the export nor `verify`, and is named."""

from dataclasses import replace

import numpy as np
import pytest
from export_models import write_pictures

from mbn_deploy import build, export_model
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import GOLDEN_NAME
from mbn_deploy.runtime.backends import default_threads
from mbn_deploy.verify.bundle_check import verify_bundle
from mbn_deploy.verify.golden import read_golden
from mbn_deploy.verify.golden_inputs import operation_inputs
from mbn_deploy.verify.interpreter_process import InterpreterProcess
from mbn_deploy.verify.operation_check import Subject, check
from mbn_deploy.verify.operation_record import record_operations

CLASSES = 600  # equally likely without weights; the reference SOFTMAX of 8 bits aborts from 512 on


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """The int8 bundle of a network without weights."""
    folder = tmp_path_factory.mktemp("untrained")
    return export_model(
        build("mobilenet_v2", alpha=0.35, size=32, classes=CLASSES),
        folder / "dist",
        calibrate=write_pictures(folder / "pictures"),
        precisions=["int8"],
        preprocess="tf",
        resize="squash",
        report=False,
    )


def subject_of(made, file_format):
    """The bundle's file of this format, its golden inputs, and what the bundle says of its operations."""
    entry = made.bundle.file(file_format, "int8")
    golden = read_golden((made.bundle.folder / GOLDEN_NAME).read_bytes(), "golden")
    backend = "litert" if file_format == "tflite" else "onnx"
    subject = Subject(
        data=made.bundle.path(entry).read_bytes(),
        format=file_format,
        precision="int8",
        backend=backend,
        threads=default_threads(),
        where=entry.path,
    )
    return subject, operation_inputs(entry, golden.pixels), golden.provenance[entry.path]


def test_a_network_without_weights_is_exported_and_the_operation_that_aborts_is_named(untrained):
    (warning,) = [sentence for sentence in untrained.warnings if "SOFTMAX" in sentence]
    assert "int8.tflite" in warning
    assert "SIGABRT" in warning


@pytest.mark.parametrize("file_format", ["tflite", "onnx"])
def test_the_operations_before_it_are_compared(untrained, file_format):
    subject, sources, origin = subject_of(untrained, file_format)
    left_out = 2 if file_format == "tflite" else 0  # SOFTMAX, and the QUANTIZE behind it
    assert origin.operations == (subject.count_operations() - left_out if left_out else None)
    found = check(replace(subject, count=origin.operations), sources, origin.samples, origin.relative_tolerance)
    assert found.passed
    assert (found.left_out, found.compared) == (left_out, subject.count_operations() - left_out)


def test_verify_accepts_the_bundle(untrained):
    assert all(result.passed for result in verify_bundle(untrained.bundle.folder).files)


@pytest.mark.parametrize("count", [-1, 0, 10**6])
def test_a_number_of_operations_that_the_file_does_not_have_is_refused(untrained, count):
    subject, sources, origin = subject_of(untrained, "tflite")
    with pytest.raises(InputError, match=r"int8\.tflite"):
        check(replace(subject, count=count), sources, origin.samples, origin.relative_tolerance)


def test_an_operation_in_the_middle_is_found(untrained):
    """Kernels of the child refuse everything from the fifth operation on."""
    subject, sources, _ = subject_of(untrained, "tflite")

    class UpToFour(InterpreterProcess):
        def call(self, function, fields, *rest):
            if fields["count"] is None or fields["count"] > 4:
                raise InputError("refuses it")
            return super().call(function, fields, *rest)

    with UpToFour() as process:
        samples = record_operations(process, subject, sources)
    assert samples.count == 4
    assert "operation 5 of" in samples.warning
    found = check(replace(subject, count=4), sources, samples.values, 0.0)
    assert found.passed
    assert found.compared == 4


def test_samples_are_empty_where_nothing_runs(untrained):
    subject, sources, _ = subject_of(untrained, "onnx")

    class Nothing(InterpreterProcess):
        def call(self, *_):
            raise InputError("refuses it")

    with Nothing() as process:
        samples = record_operations(process, subject, sources)
    assert samples.count == 0
    assert samples.values.dtype == np.uint8
    assert not samples.values.size
