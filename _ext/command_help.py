"""The directive `command-help`: what `python -m gpt2 NAME --help` prints.

It is asked when the book is built, so that no copy of it can grow old.
"""
import io
from contextlib import redirect_stdout

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from gpt2.command_line.app import app as commands
from gpt2.command_line.options import PROGRAM


def help_of(*words):
    """The help of a command, or of all; 80 columns wide on every terminal."""
    with redirect_stdout(io.StringIO()) as shown:
        commands([*words, "--help"], prog_name=PROGRAM, terminal_width=78,
                 standalone_mode=False)
    return shown.getvalue()


class CommandHelp(SphinxDirective):
    optional_arguments = 1

    def run(self):
        text = help_of(*self.arguments).rstrip()
        return [nodes.literal_block(text, text, language="text")]


def setup(app):
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
