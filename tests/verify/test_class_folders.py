"""Folders of images as data sets: links, and classes that folders name."""

import pytest
from export_models import LABELS, write_labelled, write_pictures

from mbn_deploy.data.dataset import load_dataset
from mbn_deploy.errors import InputError


def test_class_folders_that_are_links_count(tmp_path):
    """As for Keras; a link that leads back to where it stands is not followed for ever."""
    for label in ("ant", "bee"):
        write_pictures(tmp_path / "elsewhere" / label, 2)
    (tmp_path / "val" / "cat").mkdir(parents=True)
    write_pictures(tmp_path / "val" / "cat", 2)
    for label in ("ant", "bee"):
        (tmp_path / "val" / label).symlink_to(tmp_path / "elsewhere" / label)
    (tmp_path / "val" / "cat" / "round").symlink_to(tmp_path / "val")
    (tmp_path / "elsewhere" / "ant" / "bees").symlink_to(tmp_path / "elsewhere" / "bee")  # and from there back again
    (tmp_path / "elsewhere" / "bee" / "ants").symlink_to(tmp_path / "elsewhere" / "ant")
    dataset = load_dataset(tmp_path / "val", 3, labels=("ant", "bee", "cat"))
    folders = [path.relative_to(tmp_path / "val").parts[0] for path in dataset.paths]
    assert folders == ["ant"] * 4 + ["bee"] * 4 + ["cat"] * 2


def test_as_many_folders_as_classes_are_offered_as_labels(tmp_path):
    folder = write_labelled(tmp_path / "val")
    with pytest.raises(InputError, match=f"--labels {folder}"):
        load_dataset(folder, len(LABELS))
    with pytest.raises(InputError) as caught:
        load_dataset(folder, len(LABELS) + 1)
    assert "--labels" in str(caught.value)
    assert f"--labels {folder}" not in str(caught.value)
