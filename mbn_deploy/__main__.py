"""`python -m mbn_deploy` is the command `mbn-deploy`."""

from mbn_deploy.cli.main import main

if __name__ == "__main__":
    main()
