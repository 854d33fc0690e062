"""The command line from a checkout: `python cli.py run configs/demo.yaml`."""

from probe.commands.main import main

if __name__ == "__main__":
    main()
