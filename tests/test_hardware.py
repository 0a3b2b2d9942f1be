"""What the machine has, and what of it this process may use."""

from __future__ import annotations

import pytest

from workbench import hardware
from workbench.cgroup import MemoryLimit, cpu_limit, memory_limit
from workbench.hardware import gpu_use, look, read_cards

CARDS = """0, GPU-aa11, NVIDIA T4, 15360, 15000, 7.5
1, GPU-bb22, NVIDIA RTX 4090, 24564, 24000, 8.9
"""


@pytest.fixture
def driver_says(tmp_path, monkeypatch):
    """Put a program in front that answers as the driver's does."""

    def put(answer):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat <<END\n{answer}\nEND\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return put


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (["0"], ["NVIDIA T4"]),
        (["1", "0"], ["NVIDIA RTX 4090", "NVIDIA T4"]),
        (["GPU-bb"], ["NVIDIA RTX 4090"]),
        (["1", "7", "0"], ["NVIDIA RTX 4090"]),
        (["-1"], []),
        ([], []),
    ],
)
def test_the_cards_are_those_that_a_child_process_sees(visible, names):
    assert [card.name for card in read_cards(CARDS, visible)] == names


def test_a_card_that_shares_the_memory_of_the_machine_is_left_out():
    assert read_cards("0, GPU-cc, NVIDIA GB10, [N/A], [N/A], 12.1\n", ["0"]) == ()


def test_a_card_is_known_to_be_quick_in_bf16_or_not():
    assert [card.has_bf16 for card in read_cards(CARDS, ["0", "1"])] == [False, True]
    assert read_cards(CARDS, ["1"])[0].free_bytes == 24000 * 1024**2


@pytest.mark.parametrize(
    ("cuda", "count"), [("cuda: Optional[str] = None", 0), ("cuda: Optional[str] = '13.0'", 1)]
)
def test_a_card_that_torch_cannot_use_is_none(tmp_path, monkeypatch, driver_says, cuda, count):
    (tmp_path / "version.py").write_text(f"debug = False\n{cuda}\nhip = '1'\n")
    driver_says(CARDS)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    class Torch:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr(hardware, "find_spec", lambda name: Torch)
    assert len(look(tmp_path).gpus) == count
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert look(tmp_path).gpus == ()


@pytest.fixture
def groups(tmp_path):
    """Write the files of control groups; return the arguments that read them."""

    def write(own, **files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "groups" / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "groups", tmp_path / "own"

    return write


def test_no_groups_are_no_limit(tmp_path):
    assert memory_limit(tmp_path, tmp_path / "none") is None
    assert cpu_limit(tmp_path, tmp_path / "none") is None


def test_limits_of_version_2_hold_for_all_below_and_files_that_were_read_count_as_free(groups):
    where = groups(
        "0::/outer/inner\n",
        outer__memory_dot_max="1000\n",
        outer__memory_dot_current="700\n",
        outer__memory_dot_stat="anon 1\ninactive_file 200\n",
        outer__inner__memory_dot_max="max\n",
        outer__inner__memory_dot_current="700\n",
        outer__cpu_dot_max="150000 100000\n",
        outer__inner__cpu_dot_max="max 100000\n",
    )
    assert memory_limit(*where) == MemoryLimit(1000, 500)
    assert cpu_limit(*where) == 1.5


def test_limits_of_version_1_are_those_of_the_container_whose_group_is_the_root(groups):
    where = groups(
        "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n",
        memory__memory_dot_limit_in_bytes="2000\n",
        memory__memory_dot_usage_in_bytes="1900\n",
        memory__memory_dot_stat="total_inactive_file 100\n",
        **{
            "cpu,cpuacct__cpu_dot_cfs_quota_us": "200000\n",
            "cpu,cpuacct__cpu_dot_cfs_period_us": "100000\n",
        },
    )
    assert memory_limit(*where) == MemoryLimit(2000, 200)
    assert cpu_limit(*where) == 2
    groups("3:cpu,cpuacct:/", **{"cpu,cpuacct__cpu_dot_cfs_quota_us": "-1\n"})
    assert cpu_limit(*where) is None


def test_a_limit_is_what_the_machine_has(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "memory_limit", lambda: MemoryLimit(10**9, 4 * 10**8))
    monkeypatch.setattr(hardware, "cpu_limit", lambda: 1.5)
    found = look(tmp_path)
    assert (found.memory_bytes, found.free_memory_bytes, found.cpu_cores) == (10**9, 4 * 10**8, 1)


@pytest.mark.parametrize(
    ("maker", "flags", "has_bf16"),
    [
        ("AuthenticAMD", "sse avx512_bf16", True),
        ("GenuineIntel", "avx512_bf16 amx_bf16", True),
        ("GenuineIntel", "avx512_bf16", False),
        ("AuthenticAMD", "avx512f", False),
    ],
)
def test_a_processor_is_known_to_be_quick_in_bf16_or_not(
    tmp_path, monkeypatch, maker, flags, has_bf16
):
    details = tmp_path / "cpuinfo"
    details.write_text(f"vendor_id\t: {maker}\nflags\t\t: fpu {flags} hypervisor\n")
    monkeypatch.setattr(hardware, "CPU_DETAILS", details)
    assert look(tmp_path).cpu_is_quick_in_bf16 is has_bf16
    monkeypatch.setattr(hardware, "CPU_DETAILS", tmp_path / "none")
    assert look(tmp_path).cpu_is_quick_in_bf16 is False


@pytest.mark.parametrize(("answer", "share"), [("87", 0.87), ("0", 0.0), ("[N/A]", None)])
def test_the_driver_says_how_busy_a_card_is(driver_says, answer, share):
    driver_says(answer)
    assert gpu_use("GPU-1") == share


def test_without_a_driver_nothing_is_known(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_use("GPU-1") is None
    assert look(tmp_path).gpus == ()
