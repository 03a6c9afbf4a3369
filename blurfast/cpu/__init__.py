"""The CPU backend: kernels in explicit SIMD, and the operators around them."""
