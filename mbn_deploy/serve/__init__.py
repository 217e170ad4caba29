"""A web page and an HTTP interface for one classifier, for boards without a screen.

It needs the extra `serve` (starlette, uvicorn). Only `mbn_deploy.cli.serve` imports this package.
"""
