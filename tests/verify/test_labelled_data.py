"""What is right for each image, by the meaning of the answers: tables and folders."""

import os

import numpy as np
import pytest
from export_models import write_pictures

from mbn_deploy.answers import Answers
from mbn_deploy.data.dataset import all_images, load_dataset
from mbn_deploy.errors import InputError

LABELS, VALUES = Answers("labels", "sigmoid"), Answers("values", "none")
BINARY, EMBEDDING = Answers("binary", "sigmoid"), Answers("embedding", "none")
NAMES = ("cat", "dog", "big fish")


@pytest.fixture
def pictures(tmp_path):
    return write_pictures(tmp_path / "images", 4).parent


def table(folder, text, name="right.csv"):
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def rows(truth):
    return truth.astype(int).tolist()


@pytest.mark.parametrize("ending", [".png", ""], ids=["names with endings", "Kaggle's, without"])
def test_a_column_of_zeros_and_ones_for_each_label(pictures, ending):
    text = f"image_id,dog,remark,cat,big fish\n000{ending},1,x,0,0\n002{ending},0,,1,1\n"
    found = load_dataset(table(pictures, text), 3, answers=LABELS, labels=NAMES)
    assert [path.name for path in found.paths] == ["000.png", "002.png"]
    assert rows(found.truth) == [[0, 1, 0], [1, 0, 1]]
    assert (found.names, found.name) == (NAMES, "right.csv")


@pytest.mark.parametrize("cells", [("true", "False"), ("yes", "no"), ("1.0", "0.0"), ("1", "-1"), ("1", "")])
def test_yes_and_no_are_written_in_many_ways(pictures, cells):
    yes, no = cells
    text = f"images/000.png;{yes};{no}\nimages/001.png;{no};{yes}\n"
    found = load_dataset(table(pictures, text), 2, answers=LABELS)
    assert rows(found.truth) == [[1, 0], [0, 1]]


@pytest.mark.parametrize("cell", ["dog|big fish", '"dog,big fish"', "dog;big fish", "\"['dog', 'big fish']\""])
def test_one_column_of_labels(pictures, cell):
    text = f"file,labels\nimages/000.png,{cell}\nimages/001.png,\nimages/002.png,cat\n"
    found = load_dataset(table(pictures, text), 3, answers=LABELS, labels=NAMES)
    assert rows(found.truth) == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]


def test_labels_with_spaces_between_them(pictures):
    text = "image_name,tags\n000,clear primary\n001,haze\n"
    found = load_dataset(table(pictures, text), 3, answers=LABELS, labels=("haze", "clear", "primary"))
    assert rows(found.truth) == [[0, 1, 1], [1, 0, 0]]


def test_folders_of_labels_and_a_picture_in_two_of_them(tmp_path):
    for label in ("cat", "dog"):
        write_pictures(tmp_path / "val" / label, 2)
    os.link(tmp_path / "val" / "cat" / "000.png", tmp_path / "val" / "dog" / "both.png")
    (tmp_path / "val" / "dog" / "link.png").symlink_to(tmp_path / "val" / "cat" / "001.png")
    found = load_dataset(tmp_path / "val", 3, answers=LABELS, labels=NAMES)
    assert len(found) == 4
    assert sorted(rows(found.truth)) == [[0, 1, 0], [0, 1, 0], [1, 1, 0], [1, 1, 0]]


def test_values_with_the_names_of_the_heading(pictures):
    text = "width,filename,age\n1.5,000.png,30\n-2e1,003.png,41.25\n"
    found = load_dataset(table(pictures, text), 2, answers=VALUES)
    assert found.names == ("width", "age")
    np.testing.assert_array_equal(found.truth, np.float32([[1.5, 30], [-20, 41.25]]))
    turned = load_dataset(table(pictures, text), 2, answers=VALUES, labels=("age", "width"))
    np.testing.assert_array_equal(turned.truth, np.float32([[30, 1.5], [41.25, -20]]))
    bare = load_dataset(table(pictures, "images/000.png\t3\n"), 1, answers=VALUES)
    assert bare.truth.tolist() == [[3.0]]


def test_classes_and_binary_answers_in_tables(pictures):
    text = "path,label\nimages/000.png,dog\nimages/001.png,0\n"
    assert load_dataset(table(pictures, text), 2, labels=("cat", "dog")).truth.tolist() == [1, 0]
    assert load_dataset(table(pictures, text), 1, answers=BINARY, labels=("dog",)).truth.tolist() == [1, 0]
    free = load_dataset(table(pictures, text), 8, answers=EMBEDDING)
    assert (free.names, free.truth.tolist()) == (("0", "dog"), [1, 0])


@pytest.mark.parametrize(
    ("folders", "labels", "expected"),
    [
        (("cats", "dogs"), ("cats", "dogs"), {"cats": 0, "dogs": 1}),
        (("cats", "dogs"), ("dogs", "cats"), {"cats": 1, "dogs": 0}),
        (("0", "1"), None, {"0": 0, "1": 1}),
        (("negative", "positive"), None, {"negative": 0, "positive": 1}),
        (("cats", "birds", "dogs"), ("dogs",), {"cats": 0, "birds": 0, "dogs": 1}),
    ],
)
def test_folders_of_a_binary_model(tmp_path, folders, labels, expected):
    for name in folders:
        write_pictures(tmp_path / name, 1)
    found = load_dataset(tmp_path, 1, answers=BINARY, labels=labels)
    named = zip(found.paths, found.truth, strict=True)
    assert {path.parent.name: int(side) for path, side in named} == expected
    assert len(found.names) == 2


def test_two_folders_of_other_names_are_offered_as_labels(tmp_path):
    for name in ("cats", "dogs"):
        write_pictures(tmp_path / name, 1)
    with pytest.raises(InputError, match=f"--labels {tmp_path}"):
        load_dataset(tmp_path, 1, answers=BINARY)


def test_folders_of_an_embedding_are_classes_of_any_name(tmp_path):
    for name in ("anna", "ben"):
        write_pictures(tmp_path / name, 2)
    found = load_dataset(tmp_path, 64, answers=EMBEDDING)
    assert (found.names, found.truth.tolist()) == (("anna", "ben"), [0, 0, 1, 1])
    write_pictures(tmp_path, 1)
    assert load_dataset(tmp_path, 64, answers=EMBEDDING, unlabelled=True).truth is None


@pytest.mark.parametrize(
    ("answers", "text", "named"),
    [
        (LABELS, "file,labels\nimages/000.png,cat|dgo\n", ("line 2", "'dgo'", "dog")),
        (LABELS, "file,cat,dog\nimages/000.png,1,0\n", ("big fish",)),
        (LABELS, "file,cat,dog,big fish\nimages/000.png,1,2,0\n", ("line 2", "'2'")),
        (LABELS, "file,cat,dog,big fish\nimages/000.png,1,-1,0\n", ("line 2", "'-1'")),
        (LABELS, "file,cat,dog,big fish\nimages/000.png,1,0\n", ("line 2", "columns")),
        (VALUES, "file,a,b,c\nimages/000.png,1,nan,3\n", ("line 2", "'nan'")),
        (VALUES, "file,a\nimages/000.png,1\n", ("1 columns", "3 values")),
        (VALUES, "file,a,b,c\nnowhere.png,1,2,3\n", ("line 2", "nowhere.png")),
        (VALUES, "just a text\n", ("one column",)),
        (VALUES, "file,a,b,c\n", ("no lines",)),
        (Answers(), "file,label\nimages/000.png,bird\n", ("'bird'",)),
        (Answers(), "file,x,z\nimages/000.png,cat,dog\n", ("2 columns", "label")),
    ],
)
def test_what_is_wrong_with_a_table_is_named(pictures, answers, text, named):
    labels = None if answers.meaning == "values" else NAMES
    with pytest.raises(InputError) as caught:
        load_dataset(table(pictures, text), 3, answers=answers, labels=labels)
    assert "right.csv" in str(caught.value)
    for part in named:
        assert part in str(caught.value)


def test_two_images_of_one_name_need_a_path(pictures):
    write_pictures(pictures / "others", 1)
    with pytest.raises(InputError, match="2 images"):
        load_dataset(table(pictures, "file,v\n000,1\n"), 1, answers=VALUES)
    assert len(load_dataset(table(pictures, "file,v\nothers/000.png,1\n"), 1, answers=VALUES)) == 1


def test_values_are_not_looked_for_in_folders(pictures):
    with pytest.raises(InputError, match="CSV"):
        load_dataset(pictures, 1, answers=VALUES)
    assert load_dataset(pictures, 1, answers=VALUES, unlabelled=True).truth is None


def test_the_images_of_a_table_can_be_left_out_of_a_calibration(pictures):
    path = table(pictures, "file,v\n000,1\n003,2\n")
    assert [image.name for image in all_images(path).paths] == ["000.png", "003.png"]
