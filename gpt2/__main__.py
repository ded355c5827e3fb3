"""The command line: `python -m gpt2 --help`. See gpt2/command_line/."""
import sys

from gpt2.command_line.app import main

if __name__ == "__main__":
    sys.exit(main())
