"""The kinds of sources of `mbn_deploy.runtime.camera`, one module each."""
