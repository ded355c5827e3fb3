"""Small notebooks for the tests of the tools."""
import json


def code(cell_id, source, **extra):
    return {"cell_type": "code", "id": cell_id, "metadata": {},
            "execution_count": None, "outputs": [],
            "source": source.splitlines(keepends=True), **extra}


def text(cell_id, source):
    return {"cell_type": "markdown", "id": cell_id, "metadata": {},
            "source": source.splitlines(keepends=True)}


def write(path, *cells):
    """A notebook in the form in which Jupyter writes it."""
    notebook = {"cells": list(cells), "nbformat": 4, "nbformat_minor": 5,
                "metadata": {"widgets": {}, "language_info": {
                    "name": "python", "version": "3.99"}}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n",
                    "utf-8")
    return path
