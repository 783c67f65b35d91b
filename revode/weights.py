"""Small trained weights that ride in the package: float16, with checksums.

A file is a numpy archive of plain arrays (no pickle), one for each entry of ``state_dict``, and one, ``__about__``,
with a line of JSON: the arguments of :func:`revode.build` and where the weights come from. Float16 numbers are stored
as their low bytes and then their high bytes, a uint8 array (2, ...), which compresses better. ``SHA256SUMS`` lists
the files of the folder, in the format of ``sha256sum``.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import checkpoint, paths
from .checkpoint import write_atomic
from .errors import CheckpointError
from .fields import choose
from .models import build
from .networks import Network
from .stage import MEMORY

SUMS = "SHA256SUMS"
ABOUT = "__about__"


def folder() -> Path:
    """Where the weights of the package are."""
    return paths.bundled() / "weights"


def names() -> list[str]:
    """Names that :func:`load_trained` knows, sorted."""
    return sorted(p.stem for p in folder().glob("*.npz"))


def export(network: Network, name: str, meta: dict | None = None, to: str | os.PathLike[str] | None = None) -> Path:
    """Write a network's weights in float16, and enter the file in the list of checksums.

    Numbers too large for float16 (running variances can be) stay float32.

    Args:
        network: A network made by :func:`revode.build`; what it takes to build it is stored with the weights.
        name: Name of the file, without its ending.
        meta: What else should be known of it, for example the name of its result file; for JSON.
        to: Folder; None is the package's own.

    Returns:
        The file.

    Raises:
        ValueError: the network has no name, ``name`` is no name of a file, or a weight is not finite.
        CheckpointError: it cannot be written.
    """
    if network.name is None:
        raise ValueError("network has no name, so it could not be built again; make it by revode.build")
    if not name or Path(name).name != name:
        raise ValueError(f"name = {name!r} must be the name of a file, without folder and ending")
    arrays = {key: _half(key, t) for key, t in network.state_dict().items()}
    about = json.dumps({"settings": network.settings, "meta": meta or {}}, sort_keys=True)
    arrays[ABOUT] = np.frombuffer(about.encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    to = folder() if to is None else Path(to)
    path = to / f"{name}.npz"
    write_atomic(path, buffer.getvalue())
    # What is listed already stays as it is: reading it again would vouch for a damaged file.
    listed = _listed(to) if (to / SUMS).exists() else {}
    listed.pop(path.name, None)
    files = sorted(p for p in to.iterdir() if p.is_file() and p.name != SUMS and p.suffix != ".part")
    sums = "".join(f"{listed.get(p.name) or _sha256(p.read_bytes())}  {p.name}\n" for p in files)
    write_atomic(to / SUMS, sums.encode())
    return path


def load_trained(name: str, *, memory: str = "reversible", device: str | torch.device = "cpu") -> Network:
    """A trained network of the package, in eval mode.

    Args:
        name: One of :func:`names`.
        memory: "reversible" or "stored".
        device: Where it is put.

    Returns:
        The network, float32 with the values of the float16 weights; its attribute ``meta`` tells where they come
        from, and by which "mean" and "std" its images must be normalised.

    Raises:
        CheckpointError: there are no such weights (the names are listed), or the file is damaged.
        ValueError: ``memory`` is neither of the two.
    """
    choose("memory", memory, MEMORY)
    if name not in names():
        raise CheckpointError(f"there are no trained weights {name!r}; there are: {', '.join(names()) or 'none'}")
    path = folder() / f"{name}.npz"
    try:
        content, listed = path.read_bytes(), _listed(folder())
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read ({error.strerror}); install revode again") from error
    if listed.get(path.name) != _sha256(content):
        raise CheckpointError(f"{path} is damaged (its checksum is not the one in {SUMS}); install revode again")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        about = json.loads(arrays.pop(ABOUT).tobytes())
        settings = about["settings"] | {"memory": memory}
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} holds no weights of revode ({error}); write it by `revode export`") from error
    try:
        network = build(**settings)
        network.load_state_dict({key: _tensor(array) for key, array in arrays.items()})
    except (RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit its network ({error}); write it by `revode export`") from error
    network.meta = about["meta"]
    return network.to(device).eval()


def _listed(of: Path) -> dict[str, str]:
    """The files in a folder's list of checksums, and these."""
    lines = (of / SUMS).read_text("utf-8").splitlines()
    return {file: digest for digest, _, file in (line.partition("  ") for line in lines)}


def _half(key: str, t: Tensor) -> np.ndarray:
    if not t.isfinite().all():
        raise ValueError(f"network: '{key}' is not finite, so there is nothing worth keeping")
    if not t.is_floating_point():
        return t.cpu().contiguous().numpy()
    half = t.cpu().to(torch.float16).contiguous()
    if not half.isfinite().all():
        return t.cpu().float().contiguous().numpy()
    bits = half.numpy().view("<u2")
    return np.stack([bits & 0xFF, bits >> 8]).astype(np.uint8)


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype == np.uint8:
        low, high = array.astype("<u2")
        array = np.asarray(low | high << 8).view("<f2")
    t = torch.from_numpy(array)
    return t.float() if t.is_floating_point() else t


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``revode export``."""
    parser.add_argument("run", help="folder of a finished run of `revode train`")
    parser.add_argument("name", help="name of the weights and of the result")
    parser.add_argument("--result-only", action="store_true", help="leave the weights out, as for further seeds")
    parser.add_argument("--to", help="folder with results/ and weights/ (default: the package's data)")


def main(args: argparse.Namespace) -> int:
    """``revode export``: the result of a run, and its weights, into a folder of data."""
    from . import results, train

    run, to = Path(args.run), Path(args.to) if args.to else paths.bundled()
    record = results.read(run / train.RESULT)
    if record["status"] != "finished":
        raise CheckpointError(
            f"{run / train.RESULT} is {record['status']}, at step {record['final'].get('step')}; go on with "
            "`revode train ... --resume` until it is finished"
        )
    result = to / "results" / f"{args.name}.json"
    if args.result_only:
        results.write(result, record | {"name": args.name})
        print(result)
        return 0
    network = train.load_network(run)
    done = checkpoint.load(run / train.CHECKPOINT)["step"]
    if done != record["final"]["step"]:
        raise CheckpointError(f"{run}: the checkpoint is of step {done}, the result of step {record['final']['step']}")
    meta = {
        "result": args.name,
        "data": record["settings"]["data"],
        "test_accuracy": record["final"]["test_accuracy"],
        "commit": record["evidence"]["commit"],
    } | network.meta
    path = export(network, args.name, meta, to / "weights")
    results.write(result, record | {"name": args.name})
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB; {result}")
    return 0
