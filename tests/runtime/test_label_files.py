"""Label files: the names of classes in every form in which people have them."""

import json

import pytest

from mbn_deploy.errors import InputError
from mbn_deploy.runtime.label_files import folder_labels, parse_label_file, read_labels

PETS = ("ant", "bee", "owl")

FORMS = {
    "lines.txt": "ant\nbee\nowl\n",
    "windows.txt": "ant\r\nbee\r\nowl\r\n",
    "blank.txt": "\n\nant\n\nbee\nowl\n\n",
    "spaces.txt": "0 ant\n1 bee\n2 owl",
    "two_spaces.txt": "0  ant\n1  bee\n2  owl",
    "tabs.txt": "0\tant\n1\tbee\n2\towl",
    "colons.txt": "0: ant\n1: bee\n2:owl",
    "commas.txt": "0,ant\n1, bee\n2,owl",
    "dots.txt": "0. ant\n1. bee\n2. owl",
    "dashes.txt": "0 - ant\n1 - bee\n2 - owl",
    "padded.txt": "00 ant\n01 bee\n02 owl",
    "shuffled.txt": "2 owl\n0 ant\n1 bee",
    "one_line.txt": "ant,bee, owl",
    "quoted.txt": '"ant", "bee", "owl"',
    "list.json": '["ant", "bee", "owl"]',
    "by_name.json": '{"owl": 2, "ant": 0, "bee": 1}',
    "by_index.json": '{"2": "owl", "1": "bee", "0": "ant"}',
    "texts.json": '{"owl": "2", "ant": "0", "bee": "1"}',
    "hub.json": '{"model_type": "x", "id2label": {"0": "ant", "1": "bee", "2": "owl"}}',
    "nested.json": '{"labels": ["ant", "bee", "owl"]}',
    "imagenet.json": '{"0": ["n01", "ant"], "1": ["n02", "bee"], "2": ["n03", "owl"]}',
    "objects.json": '[{"id": 1, "name": "bee"}, {"id": 0, "name": "ant"}, {"id": 2, "name": "owl"}]',
    "json_in.txt": '["ant", "bee", "owl"]',
    "header.csv": "index,label\n1,bee\n0,ant\n2,owl\n",
    "names_first.csv": "class_name,class_id\nant,0\nbee,1\nowl,2\n",
    "no_header.csv": "0,ant\n1,bee\n2,owl\n",
    "semicolons.csv": "id;name\n0;ant\n1;bee\n2;owl\n",
    "only_names.csv": "label\nant\nbee\nowl\n",
    "map.pbtxt": "".join(f"item {{\n  id: {i}\n  name: '{n}'\n}}\n" for i, n in enumerate(PETS)),
    "display.pbtxt": "".join(
        f'item {{ name: "/m/{i}" id: {i} display_name: "{n}" }}\n' for i, n in enumerate(PETS)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_names(name):
    assert parse_label_file(FORMS[name].encode(), name) == PETS


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings(encoding):
    assert parse_label_file("ant\nbee\nowl\n".encode(encoding), "labels.txt") == PETS
    assert parse_label_file("Ameise\nBiene\nKäuzchen\n".encode(encoding), "labels.txt")[2] == "Käuzchen"


NAMES = {
    "digits are names": ("7\n3\n1\n", ("7", "3", "1")),
    "commas inside of names": (
        "tench, Tinca tinca\ngoldfish, Carassius",
        ("tench, Tinca tinca", "goldfish, Carassius"),
    ),
    "a number in some lines only": ("2 euro\ntoken\n", ("2 euro", "token")),
    "decimals": ("1.5 V\n9.0 V\n", ("1.5 V", "9.0 V")),
    "numbers behind the names": ("type 0\ntype 1\n", ("type 0", "type 1")),
    "synsets": ("n01440764 tench\nn01443537 goldfish\n", ("n01440764 tench", "n01443537 goldfish")),
    "brackets": ("[unknown]\n[cat]\n", ("[unknown]", "[cat]")),
    "a single name": ("cat\n", ("cat",)),
}


@pytest.mark.parametrize("kind", NAMES)
def test_what_is_part_of_a_name_stays(kind):
    text, names = NAMES[kind]
    assert parse_label_file(text.encode(), "labels.txt") == names


REFUSED = {
    "gap": ("0 ant\n1 bee\n3 owl\n", "class 2"),
    "from one": ("1 ant\n2 bee\n3 owl\n", "class 0"),
    "twice": ("0 ant\n1 bee\n1 owl\n", "class 1"),
    "gap in JSON": ('{"ant": 0, "owl": 2}', "class 1"),
    "gap in CSV": ("id,name\n0,ant\n2,owl\n", "class 1"),
    "gap in a label map": ("item { id: 1 name: 'ant' }\n", "class 0"),
    "no numbers": ('{"ant": "bee"}', "'ant'"),
    "columns": ("id,name\n0,ant\n1\n", "columns"),
    "empty": (" \n\n", "no labels"),
    "an empty list": ("[]", "list"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_right_is_named(kind):
    text, thing = REFUSED[kind]
    with pytest.raises(InputError, match=thing) as caught:
        parse_label_file(text.encode(), "pets.txt")
    assert "pets.txt" in str(caught.value)


def test_names_of_digits_are_names():
    assert read_labels({"7": 0, "3": 1}) == ("7", "3")
    assert read_labels({0: "7", 1: "3"}) == ("7", "3")
    assert parse_label_file(b'{"7": 0, "3": 1}', "labels.json") == ("7", "3")
    assert parse_label_file(b"[7, 3]", "labels.json") == ("7", "3")


def test_damaged_json_is_no_list_of_names():
    with pytest.raises(InputError, match=r"pets\.json"):
        parse_label_file(b'["ant", "bee"', "pets.json")


def test_a_folder_names_classes_as_keras_does(tmp_path):
    keras = pytest.importorskip("keras")
    from PIL import Image

    for name in ("owl", "Zebra", "ant", "bee 2", "bee 10"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "a.png")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "note.txt").write_text("no class")
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (4, 4)).save(elsewhere / "a.png")
    (tmp_path / "linked").symlink_to(elsewhere)
    found = keras.utils.image_dataset_from_directory(tmp_path, image_size=(4, 4), verbose=False)
    assert list(folder_labels(tmp_path)) == found.class_names == ["Zebra", "ant", "bee 10", "bee 2", "linked", "owl"]


def test_python_takes_every_form(tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps(PETS))
    forms = [tmp_path / "labels.json", str(tmp_path / "labels.json"), PETS, dict(enumerate(PETS))]
    forms += [{name: index for index, name in enumerate(PETS)}]
    assert [read_labels(form) for form in forms] == [PETS] * len(forms)
    with pytest.raises(InputError, match="class 1"):
        read_labels({"ant": 0, "owl": 2})
    with pytest.raises(InputError, match="no such file"):
        read_labels(tmp_path / "nothing.txt")


def test_a_cell_without_end_is_refused():
    with pytest.raises(InputError, match="names\\.csv"):
        parse_label_file(b"a,b\n" + b"x" * 200_000 + b",c\n", "names.csv")
