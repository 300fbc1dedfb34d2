"""The zoo: bugs that Linux had, each as a pair: the kernel as it was, and as it was mended."""
