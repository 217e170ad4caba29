"""A page and an HTTP interface for one classifier: what a board without a screen needs.

Needs the extra `serve` (starlette, uvicorn); `mbn_deploy.cli.serve` is the only one that imports from here.
"""
