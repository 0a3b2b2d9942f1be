"""Print the installed versions as constraints for pip; run by ``make constraints``."""

from importlib.metadata import distributions

# Not ours to pin: the project itself, and the build of torch that fits the machine.
SKIPPED = {"finetune-workbench", "setuptools", "wheel"}


def main() -> None:
    versions = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions()}
    print("# The versions that were tested together. Refresh with `make constraints`.")
    for name, version in sorted(versions.items()):
        if name not in SKIPPED and not name.startswith(("nvidia-", "triton", "cuda-")):
            print(f"{name}=={version.split('+')[0]}")


if __name__ == "__main__":
    main()
