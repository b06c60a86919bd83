"""What the doctor finds on this machine, and what it says about machines that are ill."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from deponij.services import doctor
from deponij.services.doctor import Problem, examine, faiss_problems, look_at_data, look_at_folder


def test_this_machine(tmp_path: Path) -> None:
    (tmp_path / "taco" / "batch_1").mkdir(parents=True)
    (tmp_path / "taco" / "batch_1" / "0.jpg").write_text("")
    report = examine(
        data_sets={"taco": tmp_path / "taco", "camvid": tmp_path / "camvid"},
        folders={"depot": tmp_path / "not" / "yet"},
        pages="kept",
    )
    assert report.pages == "kept"
    assert report.python == ".".join(map(str, sys.version_info[:3]))
    assert (
        report.libraries["torch"] == torch.__version__.split("+")[0]
        or report.libraries["torch"] == torch.__version__
    )
    cpu = report.devices[0]
    assert cpu.name == "cpu"
    assert cpu.precisions["fp32"] is True
    assert (
        len([device for device in report.devices if device.name.startswith("cuda")])
        == torch.cuda.device_count()
    )
    assert {one.name: one.present for one in report.data_sets} == {"taco": True, "camvid": False}
    folders = {folder.name: folder for folder in report.folders}
    assert set(folders) == {"work", "cache", "weights", "depot"}
    assert not folders["depot"].exists
    assert folders["depot"].free_bytes > 0
    assert report.memory_bytes > report.memory_free_bytes > 0
    assert 1 <= report.n_cores_usable <= report.n_cores
    assert report.offline is True  # the tests run so
    assert report.variables["HF_HUB_OFFLINE"] == "1"
    assert {"name", "present"} <= set(report.backbones[0])
    assert json.loads(report.model_dump_json())["devices"][0]["name"] == "cpu"
    assert (
        report.faiss.wheels
        or Problem(what="FAISS is not installed", mend="install faiss-cpu, or faiss-gpu-cu12 with CUDA 12")
        in report.problems
    )


def test_two_wheels_of_faiss_or_none_or_a_broken_one() -> None:
    (both,) = faiss_problems(("faiss-cpu", "faiss-gpu-cu12"), None)
    assert "faiss-cpu and faiss-gpu-cu12 are both installed" in both.what
    assert "uninstall faiss-cpu faiss-gpu-cu12" in both.mend
    assert "not installed" in faiss_problems((), "no module")[0].what
    assert "libcudart" in faiss_problems(("faiss-gpu",), "libcudart.so.12: cannot open")[0].what
    assert faiss_problems(("faiss-cpu",), None) == []


def test_a_torchvision_that_does_not_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def broken(name: str, package: str | None = None) -> ModuleType:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, package)

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    report = examine()
    assert any("torchvision" in problem.what and "nms" in problem.what for problem in report.problems)
    assert report.devices[0].name == "cpu"


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    monkeypatch.setattr(doctor, "LOW_DISK_BYTES", 1 << 62)
    real = importlib.import_module

    def none(name: str, package: str | None = None) -> ModuleType:
        if name in ("torch", "faiss"):
            raise ImportError(f"No module named {name!r}")
        return real(name, package)

    monkeypatch.setattr(doctor.importlib, "import_module", none)
    report = examine()
    said = [problem.what for problem in report.problems]
    assert "dvc is not installed" in said
    assert "peft is not installed" not in said  # optional
    assert "torch cannot be imported: No module named 'torch'" in said
    assert sum("are free at" in one for one in said) == 3
    assert report.devices == ()
    assert all(problem.mend for problem in report.problems)


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        name, total_memory, major, minor = "NVIDIA T4", 16_000_000_000, 7, 5

    class Cuda:
        @staticmethod
        def get_device_properties(index: int) -> Properties:
            return Properties()

    class Torch:
        cuda = Cuda

    monkeypatch.setattr(
        doctor,
        "_usable",
        lambda torch, device, units: {name: name in units for name in ("fp32", "bf16", "fp16")},
    )
    device = doctor._cuda(Torch, 1)
    assert (device.name, device.model, device.capability) == ("cuda:1", "NVIDIA T4", "7.5")
    assert device.precisions == {"fp32": True, "bf16": False, "fp16": True}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_gpu_runs_all_precisions() -> None:
    device = examine().devices[1]
    assert device.name == "cuda:0"
    assert set(device.precisions) == {"fp32", "bf16", "fp16"}
    assert device.memory_bytes == torch.cuda.get_device_properties(0).total_memory


def test_a_precision_that_does_not_run_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.nn.functional.conv2d

    def no_half(x: torch.Tensor, *args: object, **more: object) -> torch.Tensor:
        if x.dtype == torch.float16:
            raise RuntimeError('"slow_conv2d" not implemented for Half')
        return real(x, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.nn.functional, "conv2d", no_half)
    assert "fp16" not in doctor._usable(torch, "cpu", {"fp32"})
    assert "fp32" in doctor._usable(torch, "cpu", {"fp32"})


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    folder = look_at_folder("depot", tmp_path / "a" / "b")
    assert (folder.exists, folder.path) == (False, tmp_path / "a" / "b")
    assert look_at_data("x", tmp_path / "a").n_files == 0


def test_importing_the_doctor_imports_nothing_heavy() -> None:
    program = "import sys, deponij.services.doctor; print(sorted({'torch', 'faiss', 'transformers'} & set(sys.modules)))"
    root = Path(doctor.__file__).parents[1]
    out = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
