"""Set before JAX starts: 8 host devices, float64, quick compilation, and one cache of it for all workers."""

import os
import pathlib

# The tests wait for compilation, not for what is compiled: with these flags it takes a third of the time.
QUICK_COMPILATION = """
    --xla_llvm_disable_expensive_passes=true
    --xla_backend_optimization_level=0
    --xla_cpu_parallel_codegen_split_count=1
    --xla_cpu_use_fusion_emitters=false
"""
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8", *QUICK_COMPILATION.split()]
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

CACHE = pathlib.Path(__file__).parent / ".cache" / "jax"

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.fixture(autouse=True)
def _doctest_defaults(request: pytest.FixtureRequest):
    """Examples in docstrings show what users see, in JAX's default precision."""
    if isinstance(request.node, pytest.DoctestItem):
        with jax.enable_x64(False):
            yield
    else:
        yield


@pytest.fixture(autouse=True)
def _room_for_programs():
    """Every compiled program takes some of the memory maps that Linux gives a process, 65,530 by default."""
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 40_000:
        jax.clear_caches()
