"""``python -m dynadfq``: the command line (dynadfq/cli)."""

from dynadfq.cli.app import main

if __name__ == "__main__":
    main()
