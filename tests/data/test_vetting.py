"""A prepared set from a stranger runs no code, and keeps nobody waiting."""

import json
import os
import sys

import numpy as np
import pytest

from fedjax_sl import reading
from fedjax_sl.data import DataError, load
from fedjax_sl.data.vetting import known_features
from tests.hanging import in_good_time  # noqa: F401


pytestmark = pytest.mark.usefixtures("in_good_time")

TFDS = "tensorflow_datasets.core.features."
ABSTRACT = f"{TFDS}feature.FeatureConnector"
TEXT = {"pythonClassName": f"{TFDS}text_feature.Text", "text": {}}
EVIL = {"pythonClassName": "left_a_mark.Feature", "text": {}}


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """Where a module leaves a mark that is imported by who trusts a set."""
    path = tmp_path / "mark"
    code = f"from pathlib import Path; Path({str(path)!r}).touch()"
    (tmp_path / "left_a_mark.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield path
    sys.modules.pop("left_a_mark", None)


@pytest.fixture
def prepared(prepare):
    """The folder of a set of one image of one pixel."""
    image = np.zeros((1, 1, 3), np.uint8)
    root = prepare({"train": [{"image": image, "label": 0}]})
    return root / "tiny" / "1.0.0"


def opened(folder, tmp_path):
    return load(
        "tiny", split="train", data_dir=folder.parents[1], cache_dir=tmp_path / "cache"
    )


def described(file, change):
    """Changes a description of the set."""
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def with_feature(feature):
    return lambda values: values["featuresDict"]["features"].update(other=feature)


@pytest.mark.parametrize(
    "feature",
    [
        EVIL,
        {"python_class_name": "left_a_mark.Feature", "text": {}},
        {
            "pythonClassName": f"{TFDS}sequence_feature.Sequence",
            "sequence": {"feature": EVIL, "length": "-1"},
        },
        {
            "pythonClassName": f"{TFDS}features_dict.FeaturesDict",
            "featuresDict": {"features": {"inner": EVIL}},
        },
        {
            "pythonClassName": f"{TFDS}features_dict.FeaturesDict",
            "jsonFeature": {
                "json": json.dumps(
                    {"x": {"type": EVIL["pythonClassName"], "content": {}}}
                )
            },
        },
    ],
    ids=["plain", "as in the protocol", "sequence", "dict", "JSON in JSON"],
)
def test_a_class_of_a_strangers_is_not_imported(prepared, tmp_path, mark, feature):
    described(prepared / "features.json", with_feature(feature))
    with pytest.raises(DataError, match="not opened: .*features.json.*'left_a_mark.Fe"):
        opened(prepared, tmp_path)
    assert not mark.exists()


def test_nor_as_it_was_written_before(prepared, tmp_path, mark):
    content = {"x": {"type": "left_a_mark.Feature", "content": {}}}
    legacy = {"type": f"{TFDS}features_dict.FeaturesDict", "content": content}
    (prepared / "features.json").write_text(json.dumps(legacy))
    with pytest.raises(DataError, match="not opened: .*'left_a_mark.Feature'"):
        opened(prepared, tmp_path)
    assert not mark.exists()


def test_nor_from_the_other_description(prepared, tmp_path, mark):
    described(
        prepared / "dataset_info.json", lambda values: values.update(features=EVIL)
    )
    with pytest.raises(DataError, match="not opened: .*dataset_info.json.*left_a_mark"):
        opened(prepared, tmp_path)
    assert not mark.exists()


def test_the_mark_is_left_by_who_trusts_the_set(prepared, mark):
    """Otherwise the tests above could not fail."""
    import tensorflow_datasets as tfds

    described(prepared / "features.json", with_feature(EVIL))
    with pytest.raises(ValueError, match="left_a_mark"):
        tfds.builder_from_directory(prepared)
    assert mark.exists()


def test_tfds_knows_what_is_accepted():
    import tensorflow_datasets as tfds

    find = tfds.features.FeatureConnector.cls_from_name
    names = known_features()
    assert all(find(n).__module__.startswith(TFDS) for n in names - {ABSTRACT})
    assert {f"{TFDS}feature.Tensor", f"{TFDS}tensor_feature.Tensor"} <= names


def test_its_own_features_and_columns_are_accepted(prepared, tmp_path):
    column = {"feature": [{"name": "image", "type": "BYTES"}]}
    described(
        prepared / "dataset_info.json", lambda values: values.update(schema=column)
    )
    assert opened(prepared, tmp_path).image.shape == (1, 1, 1, 3)


@pytest.mark.parametrize(
    "file, text",
    [
        ("features.json", '{"pythonClassName": 3}'),
        ("features.json", "[]"),
        ("features.json", '{"featuresDict": {"features": [1]}}'),
        ("features.json", "[" * 10**5),
        ("dataset_info.json", '{"splits": 3}'),
        ("dataset_info.json", '{"no such field": 3}'),
        ("dataset_info.json", '{"name": "tiny", "version": "2.0.0"}'),
        ("dataset_info.json", "[]"),
    ],
)
def test_a_malformed_description_is_one_sentence(prepared, tmp_path, file, text):
    """Protobuf's errors among others."""
    (prepared / file).write_text(text)
    with pytest.raises(DataError) as refusal:
        opened(prepared, tmp_path)
    said = str(refusal.value)
    assert said.startswith("data set 'tiny'") and "\n" not in said


@pytest.mark.parametrize(
    "name",
    ["features.json", "dataset_info.json", "label.labels.txt", "array_record", "more"],
)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_may_never_end_is_not_read(prepared, tmp_path, name, kind):
    path = next(prepared.glob(f"*{name}*"), prepared / name)
    path.unlink(missing_ok=True)
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=f"not opened: {path} is no regular file"):
        opened(prepared, tmp_path)


def test_nor_where_another_file_leads(prepared, tmp_path):
    (split,) = json.loads((prepared / "dataset_info.json").read_text())["splits"]
    described(
        prepared / "dataset_info.json",
        lambda values: values.update(
            splits=[split | {"filepathTemplate": "/dev/zero"}]
        ),
    )
    with pytest.raises(DataError, match="/dev/zero"):
        opened(prepared, tmp_path)
    (prepared.parent / ".config").mkdir()
    os.mkfifo(prepared.parent / ".config" / "metadata.json")
    with pytest.raises(DataError, match="metadata.json is no regular file"):
        opened(prepared, tmp_path)


def test_descriptions_have_a_size(prepared, tmp_path):
    path = prepared / "label.labels.txt"
    os.truncate(path, reading.DESCRIPTION + 1)
    with pytest.raises(DataError, match=f"expected at most {reading.DESCRIPTION}"):
        opened(prepared, tmp_path)


@pytest.mark.parametrize("file", ["image.npy", "label.npy"])
def test_a_pipe_in_the_cache_is_no_array(prepared, tmp_path, file):
    before = opened(prepared, tmp_path)
    [path] = (tmp_path / "cache").glob(f"*/{file}")
    path.unlink()
    os.mkfifo(path)
    np.testing.assert_array_equal(opened(prepared, tmp_path).image, before.image)
    assert path.is_file()
