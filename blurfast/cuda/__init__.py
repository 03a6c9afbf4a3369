"""The arithmetic on NVIDIA GPUs, file by file the twin of `blurfast.cpu`.

Kernels are written in Numba's dialect of CUDA and compiled in a child process (`programs`); whatever else happens on
a GPU goes through one small interface (`device.Device`), which `driver` implements for real devices and the tests
implement on the processor.
"""
