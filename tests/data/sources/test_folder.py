"""Folders of pictures: every file is an example of the class that its folder names."""

import pytest
from PIL import Image

from fedjax_sl.data import DataError, load


def picture(value, mode="RGB", size=(4, 4)):
    return Image.new(mode, size, value)


@pytest.fixture
def base(tmp_path):
    """A data set of two classes, cat and dog."""
    save(tmp_path / "train/dog/b.png", picture((1, 2, 3)))
    save(tmp_path / "train/dog/a.PNG", picture((4, 5, 6)))
    save(tmp_path / "train/cat/z.jpg", picture((7, 7, 7)))
    save(tmp_path / "test/dog/1.jpeg", picture((9, 9, 9)))
    return tmp_path


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def test_examples_are_in_the_order_of_classes_and_names(base):
    train, test = (
        load(f"folder:{base}", split="train"),
        load(f"folder:{base}", split="test"),
    )
    assert train.class_names == test.class_names == ("cat", "dog")
    assert train.label.tolist() == [0, 1, 1] and test.label.tolist() == [1]
    assert train.image[:, 0, 0].tolist() == [[7, 7, 7], [4, 5, 6], [1, 2, 3]]


def test_pictures_without_colour_stay_grey(tmp_path):
    save(tmp_path / "train/a/1.png", picture(5, "L"))
    assert load(f"folder:{tmp_path}", split="train").image.shape == (1, 4, 4, 1)
    save(tmp_path / "train/a/2.png", picture((1, 2, 3)))
    both = load(f"folder:{tmp_path}", split="train").image
    assert both[:, 0, 0].tolist() == [[5, 5, 5], [1, 2, 3]]


def test_sizes_that_differ_need_a_size(base):
    save(base / "train/cat/a.png", picture((8, 8, 8), size=(9, 5)))
    with pytest.raises(DataError, match=r"differ in size \(\(5, 9\), \(4, 4\), ...\)"):
        load(f"folder:{base}", split="train")
    found = load(f"folder:{base}", split="train", image_size=6)
    assert found.image.shape == (4, 6, 6, 3) and (found.image[0] == 8).all()


def test_hidden_files_are_passed_over(base):
    (base / "train/.cache").mkdir()
    (base / "train/cat/.DS_Store").write_text("")
    assert len(load(f"folder:{base}", split="train").label) == 3


def test_many_pictures_keep_their_order(tmp_path):
    """Whichever thread is first."""
    for number in range(60):
        size = (1, 1) if number % 2 else (40, 40)
        save(tmp_path / f"train/a/{number:02d}.png", picture(number, "L", size))
    found = load(f"folder:{tmp_path}", split="train", image_size=2)
    assert found.image[:, 0, 0, 0].tolist() == list(range(60))


def test_a_picture_that_cannot_be_decoded(base):
    path = base / "train/dog/b.png"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=f"{path} cannot be decoded: "):
        load(f"folder:{base}", split="train")
    path.write_text("text")
    with pytest.raises(DataError, match=f"{path} cannot be decoded: cannot identify"):
        load(f"folder:{base}", split="train")


def remove(folder):
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    "change, split, said",
    [
        (lambda base: remove(base / "train/cat"), "train", "class 'cat' .label 0. has"),
        (lambda base: remove(base / "test/dog"), "test", "test has no picture: expect"),
        (
            lambda base: (base / "train/cat/note.txt").touch(),
            "train",
            "note.txt: e",
        ),
        (
            lambda base: (base / "train/1.png").touch(),
            "train",
            "1.png: expected only",
        ),
        (
            lambda base: (base / "test/cow").mkdir(),
            "test",
            "cow: expected a class",
        ),
        (
            lambda base: (base / "test").rename(base / "t"),
            "test",
            "no .*test.*held-o",
        ),
        (
            lambda base: (base / "train").rename(base / "t"),
            "train",
            "with a folder",
        ),
    ],
)
def test_what_is_refused(base, change, split, said):
    change(base)
    with pytest.raises(DataError, match=f"^folder:{base}: .*{said}"):
        load(f"folder:{base}", split=split)


def test_an_empty_folder(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="train has no picture: expected CLASS/"):
        load(f"folder:{tmp_path}", split="train")
    with pytest.raises(DataError, match="expected .*none/train with a folder for each"):
        load(f"folder:{tmp_path}/none", split="train")
