"""Accuracy on images from other sources, without photographs used in training, decoded as workers decode them."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundle.decode import decode
from tests.training.synthetic import striped_jpeg, tiny_params, write_tar
from training.errors import TrainingError
from training.networks.architectures import NetworkSpec
from training.quality.elsewhere import ENCODINGS, measure_elsewhere, share_with_interval
from training.release.untrained import export_untrained

UNSEEN = range(100, 103)


def larger(data: bytes) -> bytes:
    """The same image in a larger size and another shape."""
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).resize((160, 120)).save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere") / "bundle"
    export_untrained(NetworkSpec("baseline_cnn", 32, 32), folder, labels=["lying", "standing"], seed=3)
    return folder


def test_training_photographs_are_left_out_in_any_size_and_shape(prepared: Path, bundle: Path, tmp_path: Path) -> None:
    seen = {f"lying/{seed}.jpg": larger(striped_jpeg(0, seed)) for seed in range(20)}
    fresh = {f"lying/{seed}.jpg": larger(striped_jpeg(0, seed)) for seed in UNSEEN}
    files = write_tar(tmp_path / "mixed.tar", seen | fresh | {"lying/broken.jpg": b"not an image"})
    names = (prepared / "test.csv").read_text(encoding="utf-8")
    held_out = sum(f"/lying/{seed}.jpg," in names for seed in range(20))
    found = measure_elsewhere(bundle, prepared, [files], tiny_params().prepare)
    assert found["pictures"] == len(UNSEEN) + held_out
    assert found["left_out"] == 20 - held_out + 1
    assert found["sent"].keys() == ENCODINGS.keys()
    with pytest.raises(TrainingError, match="no unseen images of lying or standing"):
        measure_elsewhere(
            bundle, prepared, [write_tar(tmp_path / "other.tar", {"cat/1.jpg": b""})], tiny_params().prepare
        )


def test_only_images_with_an_orientation_tag_are_turned_upright() -> None:
    image = Image.open(io.BytesIO(larger(striped_jpeg(0, 1))))
    upright, tagged, lying = (
        decode(ENCODINGS[name](image), 32, 32).pixels.astype(int)
        for name in ("natural shape, 320 px", "stored on its side, with orientation tag", "on its side, without tag")
    )
    assert np.abs(tagged - upright).mean() < 3
    assert np.abs(lying - upright).mean() > 10


@pytest.mark.parametrize("name", ENCODINGS)
def test_encoded_images_have_the_size_that_their_name_states(name: str) -> None:
    encoded = Image.open(io.BytesIO(ENCODINGS[name](Image.new("RGB", (320, 240), "grey"))))
    assert encoded.format == "JPEG"
    if size := re.match(r"([\d,]+) px", name):
        assert max(encoded.size) == int(size[1].replace(",", ""))


def test_few_images_give_a_wide_interval() -> None:
    few, many = share_with_interval(9, 10), share_with_interval(900, 1000)
    assert few.low < many.low < 0.9 < many.high < few.high < 1
