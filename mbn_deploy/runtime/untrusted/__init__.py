"""Check the structure of model files that no manifest vouches for: bounds, references, where their data lie.

What kernels demand of operations is not checked here; `runtime.backends.trial` finds that out.
"""
