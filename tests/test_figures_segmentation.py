"""The section on segmentation says what the result files say, whichever of them are there."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from matplotlib.image import imread

from revode import figures, results
from revode.experiments import segmentation
from revode.figures.segmentation import COLOURS

K = 1 + len(segmentation.CLASSES)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a result file into an empty folder in place of the bundled results; the sample stays."""
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(results, "folder", lambda: tmp_path / "results")

    def make(scheme: str, seed: int, miou: float, found) -> None:
        memory = {"stored": 8 << 20} | ({"reversible": 4 << 20} if scheme != "euler" else {})
        final = {
            "classes": ["ground", *segmentation.CLASSES], "iou": [miou] * K, "miou": miou, "accuracy": 0.8, "batch": 16,
            "memory": [{"units": [2, 2, 2]} | memory, {"units": [8, 8, 8]} | memory], "parameters": 244_000,
            "trained": min(memory), "cpu_seconds": 60.0 + seed, "trivial_accuracy": 0.75,
            "trivial_miou": {"ground": 0.15, "colour": 0.16}, "shown": ["".join(map(str, m.ravel())) for m in found],
        }  # fmt: skip
        name = f"segmentation-{scheme}-seed{seed}"
        record = results.record(
            name, "experiment", final, began=results.begin(), settings={"scheme": scheme, "steps": 10}, seed=seed
        )
        results.write(tmp_path / "results" / f"{name}.json", record)

    return make


def pixels(png: str) -> np.ndarray:
    return np.rint(255 * imread(io.BytesIO(base64.b64decode(png)))).astype(int)[..., :3]


def test_without_runs_the_tables_say_so(write):
    assert all("not yet run" in row for row in figures.segmentation_iou().rows)
    assert all("not yet run" in row for row in figures.segmentation_memory().rows)
    assert "0 and 0 finished runs" in figures.compare_segmentation()
    assert list(figures.segmented_scenes().rows) == ["scene", "mask"]


def test_the_tables_have_the_mean_and_the_spread_of_the_files(write):
    _, masks = segmentation.shown()
    for seed, plain, momentum in ((1, 0.30, 0.40), (2, 0.32, 0.44)):
        write("euler", seed, plain, masks.numpy())
        write("momentum", seed, momentum, masks.numpy())
    rows = {row[0]: row for row in figures.segmentation_iou().rows}
    assert rows["plain, 2 seeds"][1:4] == ("31.0 ± 1.4", "80.0 ± 0.0", "31.0")
    assert rows["momentum, 2 seeds"][1] == "42.0 ± 2.8"
    assert rows["ground everywhere"][1:3] == ("15.0", "75.0")
    assert figures.compare_segmentation().startswith(
        "momentum against plain, mean IoU:\n+11.00 points, standard error 2.24"
    )
    memory = {row[:2]: row for row in figures.segmentation_memory().rows}
    assert memory["momentum", "rebuilt"][2:] == ("244,000", "4.0", "4.0", "62")
    assert memory["momentum", "stored"][3:] == ("8.0", "8.0", "–")
    assert memory["plain", "stored"][-1] == "62"
    assert figures.segmentation_memory().columns[3:5] == ("MiB, 10 blocks", "MiB, 40 blocks")


def test_pictures_show_the_masks_in_the_colours_that_are_named(write):
    scenes, masks = segmentation.shown()
    found = np.zeros(masks.shape, int)
    found[:, :24] = 3
    write("momentum", 1, 0.4, found)
    film = figures.segmented_scenes(1)
    assert list(film.rows) == ["scene", "mask", "found by the momentum network"]
    assert np.array_equal(pixels(film.rows["scene"][1]), scenes[1].permute(1, 2, 0).numpy())
    assert np.array_equal(pixels(film.rows["mask"][2]), np.array(COLOURS)[masks[2]])
    top = pixels(film.rows["found by the momentum network"][0])
    assert top[0, 0].tolist() == list(COLOURS[3])
    assert top[-1, 0].tolist() == list(COLOURS[0])
    assert "grey ground, red automobile, green frog, yellow horse, blue ship" in film.caption
    assert list(figures.composed_scenes(scenes, masks, ("ground", *segmentation.CLASSES)).rows) == ["scene", "mask"]
