"""A notebook that was downloaded without the rest of the book says so."""
import shutil

import nbclient
import nbformat
import pytest


def test_a_notebook_alone_names_the_remedy(root, tmp_path, monkeypatch):
    """Also where the package can be imported, as after `pip install`."""
    monkeypatch.setenv("PYTHONPATH", str(root))
    path = shutil.copy(root / "chapters" / "02_tokenizer.ipynb", tmp_path)
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=120,
        resources={"metadata": {"path": str(tmp_path)}})
    with pytest.raises(nbclient.exceptions.CellExecutionError) as caught:
        client.execute()
    assert caught.value.ename == "FileNotFoundError"
    assert "git clone https://github.com/gpt2-book/gpt2-book" in (
        caught.value.evalue)
    cells = [c for c in notebook.cells if c.cell_type == "code"]
    failed = [any(o.output_type == "error" for o in c.outputs) for c in cells]
    assert failed == [True] + [False] * (len(cells) - 1)
    assert [p.name for p in tmp_path.iterdir()] == ["02_tokenizer.ipynb"]
