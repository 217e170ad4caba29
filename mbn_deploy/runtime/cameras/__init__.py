"""One module for each kind of source of `mbn_deploy.runtime.camera`."""
