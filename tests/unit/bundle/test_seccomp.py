"""The default profile, resolved for one container."""

from __future__ import annotations

from typing import Any

from oarlock.bundle import capabilities, seccomp

KERNEL = (6, 1)


def names(found: dict[str, Any]) -> set[str]:
    """The system calls allowed whatever their arguments."""
    allow = "SCMP_ACT_ALLOW"
    rules = [rule for rule in found["syscalls"] if rule["action"] == allow and "args" not in rule]
    return {name for rule in rules for name in rule["names"]}


def test_everyday_calls_are_allowed_and_dangerous_ones_are_not() -> None:
    found = seccomp.profile(capabilities.DEFAULT, KERNEL, "x86_64")
    assert {"read", "execve", "openat2", "futex", "chroot", "arch_prctl"} <= names(found)
    forbidden = {
        "mount",
        "umount2",
        "unshare",
        "setns",
        "keyctl",
        "add_key",
        "bpf",
        "kexec_load",
        "init_module",
    }
    assert not forbidden & names(found)
    assert found["defaultAction"] == "SCMP_ACT_ERRNO"


def test_a_capability_brings_its_calls() -> None:
    admin = seccomp.profile(capabilities.DEFAULT | {"CAP_SYS_ADMIN"}, KERNEL, "x86_64")
    assert {"mount", "setns", "clone3", "clone"} <= names(admin)
    assert not any(rule["action"] == "SCMP_ACT_ERRNO" for rule in admin["syscalls"])
    assert "chroot" not in names(seccomp.profile(frozenset(), KERNEL, "x86_64"))


def test_clone3_says_not_implemented_so_that_libc_falls_back() -> None:
    found = seccomp.profile(capabilities.DEFAULT, KERNEL, "x86_64")
    assert {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38} in found["syscalls"]


def test_namespaces_cannot_be_made_with_clone() -> None:
    found = seccomp.profile(capabilities.DEFAULT, KERNEL, "x86_64")
    (clone,) = [rule for rule in found["syscalls"] if rule["names"] == ["clone"]]
    assert clone["args"] == [{"index": 0, "value": 0x7E020000, "op": "SCMP_CMP_MASKED_EQ"}]
    (clone,) = [
        rule
        for rule in seccomp.profile(capabilities.DEFAULT, KERNEL, "s390x")["syscalls"]
        if rule["names"] == ["clone"]
    ]
    assert clone["args"][0]["index"] == 1


def test_only_the_native_architecture_is_named() -> None:
    assert seccomp.profile(frozenset(), KERNEL, "x86_64")["architectures"] == ["SCMP_ARCH_X86_64"]
    found = seccomp.profile(frozenset(), KERNEL, "aarch64")
    assert found["architectures"] == ["SCMP_ARCH_AARCH64"]
    assert "arch_prctl" not in names(found)


def test_calls_that_were_unsafe_on_old_kernels_need_a_new_one() -> None:
    assert "ptrace" in names(seccomp.profile(frozenset(), (4, 8), "x86_64"))
    assert "ptrace" not in names(seccomp.profile(frozenset(), (4, 7), "x86_64"))


def test_the_same_question_is_answered_from_memory() -> None:
    first = seccomp.profile(capabilities.DEFAULT, KERNEL, "x86_64")
    assert seccomp.profile(capabilities.DEFAULT, KERNEL, "x86_64") is first
