"""Configures JAX before it starts: 8 host devices, float64, fast compilation, a compilation cache for all workers.

The tests and the contract spend most of their time in compilation; with these flags compilation takes a quarter of the
time. `GRADTX_TESTS_FLAGS=default` keeps JAX's default flags, which users have: `tests/default_flags.py` runs a sample
of the laws this way.
"""

import importlib.metadata
import os
import pathlib

os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        *(
            [
                "--xla_backend_optimization_level=0",
                "--xla_llvm_disable_expensive_passes=true",
                "--xla_cpu_parallel_codegen_split_count=1",
                # jaxlib 0.11 has removed this flag, and fails to start with an unknown flag.
                "--xla_cpu_use_fusion_emitters=false" * importlib.metadata.version("jaxlib").startswith("0.10."),
            ]
            if os.environ.get("GRADTX_TESTS_FLAGS") != "default"
            else []
        ),
    ]
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

DEFAULT_FLAGS = os.environ.get("GRADTX_TESTS_FLAGS") == "default"
CACHE = pathlib.Path(__file__).parent.parent / ".cache" / "jax"
MAPS = pathlib.Path("/proc/self/maps")

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def make_room() -> None:
    """Drops compiled programs before they use up the memory maps that Linux gives a process, 65,530 by default."""
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > 40_000:
        jax.clear_caches()
