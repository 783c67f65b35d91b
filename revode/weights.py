"""Small trained weights that ride in the package: float16, with checksums."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import torch

from . import paths
from .checkpoint import write_atomic
from .errors import CheckpointError
from .models import build
from .networks import Network

SUMS = "SHA256SUMS"


def folder() -> Path:
    """Where the weights of the package are."""
    return paths.bundled() / "weights"


def names() -> list[str]:
    """Names that :func:`load_trained` knows."""
    return sorted(p.stem for p in folder().glob("*.npz"))


def export(network: Network, name: str, meta: dict | None = None, to: Path | None = None) -> Path:
    """Write the weights in float16 and enter their checksum.

    Args:
        network: A network made by :func:`revode.build`; its settings are stored with it.
        name: File name without ending.
        meta: What else should be known of it, for example the name of its result file.
        to: Folder; None is the package's own.

    Returns:
        The file.

    Raises:
        ValueError: if a weight is not finite.
        CheckpointError: if it cannot be written.
    """
    arrays = {}
    for key, t in network.state_dict().items():
        if not torch.isfinite(t).all():
            raise ValueError(f"network: {key} is not finite, so there is nothing worth keeping")
        if t.is_floating_point():
            half = t.to(torch.float16)
            t = half if torch.isfinite(half).all() else t.float()
        arrays[key] = t.cpu().contiguous().numpy()
    about = json.dumps({"settings": network.settings, "meta": meta or {}}, sort_keys=True)
    arrays["__about__"] = np.frombuffer(about.encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    to = Path(to) if to else folder()
    path = to / f"{name}.npz"
    write_atomic(path, buffer.getvalue())
    sums = [f"{_sha256(p)}  {p.name}\n" for p in sorted(to.iterdir()) if p.suffix == ".npz"]
    write_atomic(to / SUMS, "".join(sums).encode())
    return path


def load_trained(name: str, *, memory: str = "reversible", device: str | torch.device = "cpu") -> Network:
    """A trained network of the package, in eval mode.

    Args:
        name: One of :func:`names`.
        memory: "reversible" or "stored".
        device: Where it is put.

    Returns:
        The network, float32 values of the float16 weights; ``network.meta`` tells where they come from.

    Raises:
        CheckpointError: if there are no such weights (the names are listed), or the file is damaged.
    """
    path = folder() / f"{name}.npz"
    if not path.exists():
        raise CheckpointError(f"there are no trained weights {name!r}; there are: {', '.join(names()) or 'none'}")
    data = path.read_bytes()
    listed = dict(reversed(line.split()) for line in (folder() / SUMS).read_text("utf-8").splitlines())
    if listed.get(path.name) != hashlib.sha256(data).hexdigest():
        raise CheckpointError(f"{path} is damaged (its checksum is not that in {SUMS}); install revode again")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {k: file[k] for k in file.files}
        about = json.loads(arrays.pop("__about__").tobytes())
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} holds no weights of this package ({error}); write it with `revode export`"
        ) from error
    network = build(**about["settings"] | {"memory": memory})
    network.load_state_dict({k: _tensor(v) for k, v in arrays.items()})
    network.meta = about["meta"]
    return network.to(device).eval()


def _tensor(array: np.ndarray) -> torch.Tensor:
    t = torch.from_numpy(array)
    return t.float() if t.is_floating_point() else t


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def add_arguments(parser) -> None:
    """Options of ``revode export``."""
    parser.add_argument("run", help="folder of a finished run")
    parser.add_argument("name", help="name of the weights and of the result")
    parser.add_argument("--to", default="data", help="folder with results and weights (default: data)")


def main(args) -> int:
    """``revode export``: the result and the weights of a run, into the package's data folder."""
    from . import results, train

    run, to = Path(args.run), Path(args.to)
    try:
        record = results.check(json.loads((run / "result.json").read_text("utf-8")), str(run / "result.json"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{run} holds no result.json ({error}); train there first") from error
    record["name"] = args.name
    results.write(to / "results" / f"{args.name}.json", record)
    meta = {"result": args.name, "test_accuracy": record["final"].get("test_accuracy")}
    path = export(train.load_network(run), args.name, meta, to / "weights")
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    return 0
