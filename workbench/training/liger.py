"""Liger kernels on a graphics card, where the package is installed: norms, positions and feed-forward in one pass.

(Hsu et al., arXiv 2410.10989.) Its loss is left alone: ours looks at supervised tokens only, a slice at a time.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

OWN_LOSS = {"cross_entropy": False, "fused_linear_cross_entropy": False}


def use_liger_kernels(model: Any) -> str:
    """Let a model that is loaded compute with Liger kernels.

    Returns:
        The package and its version; empty where it is not installed or has nothing for this kind of model.
    """
    try:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

        name = f"liger-kernel {version('liger-kernel')}"
    except (ImportError, PackageNotFoundError):
        return ""
    if model.config.model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        return ""
    _apply_liger_kernel_to_instance(model=model, **OWN_LOSS)
    return name
