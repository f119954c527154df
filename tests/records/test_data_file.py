"""A run's data are the same when it is resumed, or it is not resumed."""

import dataclasses
import json

import numpy as np
import pytest

from fedjax_sl.data import Dataset
from fedjax_sl.data.fingerprint import fingerprint
from fedjax_sl.records.data_file import check_data, of_run, write_data


DATA = Dataset(
    image=np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1),
    label=np.array([0, 1], np.int32),
    client=np.array([1, 0], np.int32),
    name="mine",
    class_names=("a", "b"),
)
CHANGES = {
    "pixel": {"image": DATA.image + np.eye(4, dtype=np.uint8)[..., None]},
    "label": {"label": np.array([1, 1], np.int32)},
    "order": {"image": DATA.image[::-1]},
    "owner": {"client": np.array([0, 1], np.int32)},
    "no owner": {"client": None},
    "shape": {"image": DATA.image.reshape(2, 2, 8, 1)},
    "dtype": {"image": DATA.image.astype(np.float32)},
    "names": {"class_names": ("a", "c")},
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_is_noticed(change):
    changed = dataclasses.replace(DATA, **CHANGES[change])
    assert fingerprint(changed) != fingerprint(DATA)


def test_copies_and_names_are_not():
    copy = dataclasses.replace(
        DATA, image=np.asfortranarray(DATA.image), name="called otherwise"
    )
    assert fingerprint(copy) == fingerprint(DATA)


def test_only_the_same_data_are_accepted(tmp_path):
    other = dataclasses.replace(DATA, **CHANGES["label"])
    write_data(tmp_path, {"0": of_run(DATA, DATA), "1": of_run(DATA, other)})
    check_data(tmp_path, {"1": of_run(DATA, other)})
    with pytest.raises(ValueError, match=f"{tmp_path}: the train examples have change"):
        check_data(tmp_path, {"0": of_run(other, DATA)})
    with pytest.raises(ValueError, match="the test examples have changed"):
        write_data(tmp_path, {"1": of_run(DATA, DATA)})
    # What was known stays, beside what is new.
    write_data(tmp_path, {"2": of_run(other, other)})
    assert check_data(tmp_path, {}).keys() == {"0", "1", "2"}


@pytest.mark.parametrize("text", ["[]", '{"run": 3}'])
def test_a_damaged_file(tmp_path, text):
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(ValueError, match="data.json: expected an object, found"):
        check_data(tmp_path, {"run": of_run(DATA, DATA)})


def test_a_folder_of_an_earlier_version_tells_nothing(tmp_path):
    found = {"run": of_run(DATA, DATA)}
    assert check_data(tmp_path, found) == found
    write_data(tmp_path, found)
    assert json.loads((tmp_path / "data.json").read_text()) == found
