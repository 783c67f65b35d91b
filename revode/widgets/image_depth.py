"""Image depth: the features of one image on the way of a network through multilevel training."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import traitlets as t

from .base import HERE, InteractiveFigure

DATA_FILE = HERE / "image_depth.json"  # written by revode.widgets.image_depth_data
#: Titles, and the scheme whose colour a network has.
NETWORKS = {"resnet": ("ResNet", "euler"), "hamiltonian": ("Hamiltonian", "hamiltonian")}
MOMENTS = 5  # trained, then twice doubled and trained


@cache
def bundled() -> dict[str, Any]:
    """The data that ``revode.widgets.image_depth_data`` wrote."""
    return json.loads(DATA_FILE.read_text("utf-8"))


def specification() -> dict[str, Any]:
    """All that the page needs, for JSON: the data without their origin, with the networks' titles."""
    data = {k: v for k, v in bundled().items() if k != "origin"}
    named = [dict(zip(("title", "hue"), NETWORKS[n["name"]])) | n for n in data["networks"]]
    return data | {"networks": named}


class ImageDepth(InteractiveFigure):
    """The features of one image at five moments of multilevel training: 2-2-2, 4-4-4 and 8-8-8 blocks.

    A slider for the moment (2-2-2 trained, 4-4-4 just doubled, 4-4-4 trained, 8-8-8 just doubled, 8-8-8 trained), a
    choice of test image of CIFAR-10 and of network. Shows the image; what is at the end of the three units, as three
    principal components in red, green and blue, in one basis and one scale for all moments and images; how far that has
    moved from the moment before; the probabilities of the classes; and the accuracy on test images. The trainings are
    the runs "multilevel-resnet-copy-seed0" and "multilevel-hamiltonian-copy-seed0" of ``revode experiments``. All
    numbers are precomputed (``revode.widgets.image_depth_data``).

    Args:
        **traits: ``picture``, the class of one of the bundled images; ``network``, "resnet" or "hamiltonian";
            ``moment``, 0 to 4, and ``title`` to begin with.

    Source: Chang et al. 2018 (arXiv 1710.10348) for the training.
    """

    picture = t.Unicode().tag(sync=True)
    network = t.Enum(list(NETWORKS), "resnet").tag(sync=True)
    moment = t.Int(0, min=0, max=MOMENTS - 1).tag(sync=True)
    title = t.Unicode("What does a doubling do to one image?").tag(sync=True)
    data = t.Dict({}).tag(sync=True)

    def __init__(self, **traits):
        data = specification()
        self._pictures = [p["class"] for p in data["pictures"]]
        super().__init__(**{"data": data, "picture": self._pictures[0]} | traits)

    @t.validate("picture")
    def _known(self, proposal):
        if proposal["value"] not in self._pictures:
            raise t.TraitError(f"picture = {proposal['value']!r} must be one of {self._pictures}, which were computed")
        return proposal["value"]
