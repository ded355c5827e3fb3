"""What this book adds to Sphinx.

- A cell that begins with `#| export` loses that line on the page and gets a
  caption that links to the module it goes to.
- Pictures get the alt text that their cell stored beside them.
- Exercise solutions and drawing code fold away, each with its own prompt;
  imports and the engine room fold to the line that `folding` makes of them.
- Lines that begin with ✓ (assertions that passed) look like what they are;
  a long run of them folds to its first line and a count.
- MathJax and the fonts are served from the book, not from another host.
"""
import html
import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from folding import code_of, fold_checks, is_exported, kind, summary
from myst_nb.sphinx_ import HideCodeCellNode, depart_HideCellInput

FOLDED = {      # kind of cell: tag of myst-nb, prompts
    "solution": ("hide-cell", "Show the solution", "Hide the solution"),
    "drawing": ("hide-input", "Show the drawing code",
                "Hide the drawing code"),
}
ASSETS = [    # package, its folder, folder of _static, what: no more than needed
    ("sphinx-mathjax-offline", "static/mathjax", "mathjax",
     ["tex-chtml.js", "output/chtml/fonts/woff-v2"]),
    ("font_source_sans_pro", "files", "fonts",
     ["SourceSansPro-Regular.otf", "SourceSansPro-It.otf",
      "SourceSansPro-Semibold.otf", "SourceSansPro-SemiboldIt.otf",
      "LICENSE.txt"]),
]


def edit_notebook(app, docname, source):
    """Prepare a chapter before it is parsed."""
    if not str(app.env.doc2path(docname)).endswith(".ipynb"):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            edit_cell(cell)
    source[0] = json.dumps(notebook)


def edit_cell(cell):
    metadata, how = cell["metadata"], kind(cell)
    tags = metadata.setdefault("tags", [])
    prompts = FOLDED.get(how)
    if how in ("imports", "engine-room"):
        tags.append("folded")
        prompts = "hide-input", summary(cell), summary(cell)
    if prompts:
        tag, show, hide = prompts
        tags += [tag] if tag not in tags else []
        metadata["mystnb"] = {"code_prompt_show": show,
                              "code_prompt_hide": hide}
    if is_exported(cell):
        cell["source"] = code_of(cell)
        tags.append("export")
    outputs = cell["outputs"]
    cell["outputs"] = [part for output in outputs for part in split(output)]
    metadata["alts"] = [output["metadata"].get("image/png", {}).get("alt", "")
                        for output in outputs
                        if "image/png" in output.get("data", {})]


def split(output):
    """One printed text → its runs of ✓ lines and of other lines."""
    if output.get("name") != "stdout":
        return [output]
    runs = []
    for line in "".join(output["text"]).splitlines(keepends=True):
        # an indented line belongs to the line above it
        kind = runs[-1][0] if runs and line[0] == " " else line[0] == "✓"
        if runs and runs[-1][0] == kind:
            runs[-1][1] += line
        else:
            runs.append([kind, line])
    return [{**output, "text": text} for _, text in runs]


def edit_page(app, document):
    """After parsing: alt texts and the class of check lines."""
    for cell in document.findall(nodes.container):
        if cell.get("nb_element") != "cell_code":
            continue
        alts = cell["cell_metadata"].get("alts", [])
        for image, alt in zip(cell.findall(nodes.image), alts):
            image["alt"] = alt
            image["classes"].append("figure")
        for text in cell.findall(nodes.literal_block):
            if "stream" in text["classes"] and text.astext()[:1] == "✓":
                text["classes"].append("check")


def fold_long_runs(app, document, docname):
    """Of a long run of ✓ lines, show the first and count the others."""
    if app.builder.format != "html":
        return
    for text in list(document.findall(nodes.literal_block)):
        if "check" not in text["classes"]:
            continue
        shown, folded, count = fold_checks(text.astext())
        if count:
            words = f"and {count} more checks"
            fold = HideCodeCellNode(prompt_show=words, prompt_hide=words,
                                    classes=["checks"])
            fold.append(with_text(text, folded))
            text.replace_self([with_text(text, shown), fold])


def with_text(block, text):
    other = block.copy()
    other.rawsource = text
    other.append(nodes.Text(text))
    return other


def open_fold(self, node):
    """As myst-nb does it, but named by its words; `x` in them is code."""
    show, hide = (re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(node[key]))
                  for key in ("prompt_show", "prompt_hide"))
    classes = " ".join(["admonition hide", *node["classes"]])
    self.body.append(f'<details class="{classes}">\n<summary>')
    prompts = {"": show} if show == hide else {"collapsed ": show,
                                               "expanded ": hide}
    for when, words in prompts.items():
        self.body.append(f'<p class="{when}admonition-title">{words}</p>')
    self.body.append("</summary>\n")


def add_captions(app, document, docname):
    """Say above an exported cell where its code goes."""
    name = docname.rpartition("/")[2][3:]
    for cell in document.findall(nodes.container):
        if "tag_export" in cell["classes"]:
            uri = app.builder.get_relative_uri(docname, f"api/{name}")
            file = nodes.literal(text=f"gpt2/{name}.py")
            link = nodes.reference("", "", file, internal=True, refuri=uri)
            caption = nodes.paragraph("", "exported to ", link,
                                      classes=["export-caption"])
            code = next(each for each in cell.findall(nodes.container)
                        if each.get("nb_element") == "cell_code_source")
            code.insert(0, caption)


def plain_docstring(app, what, name, obj, options, lines):
    """Docstrings are written for `help()`: `x` is code, | and * are letters."""
    if what == "module" and name.count(".") == 1:
        lines.clear()               # a chapter's title: the page has it already
    if what == "property":          # napoleon takes "word: word" for a type
        lines[:0] = ["..", ""]
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()               # Python's words on a field of a NamedTuple
    for i, line in enumerate(lines):
        parts = re.split(r"`+([^`]+)`+", line)
        parts[::2] = [re.sub(r"([\\*|]|_(?!\w))", r"\\\1", text)
                      for text in parts[::2]]
        parts[1::2] = [f"``{code}``" for code in parts[1::2]]
        lines[i] = "".join(parts)


def copy_assets(app, error):
    """Put what pages load from installed packages into the book itself."""
    if error or app.builder.format != "html":
        return
    for package, folder, target, names in ASSETS:
        source = Path(find_spec(package).origin).parent / folder
        for name in names:
            place = Path(app.outdir, "_static", target, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            if (source / name).is_dir():
                shutil.copytree(source / name, place, dirs_exist_ok=True)
            else:
                shutil.copy(source / name, place)


def name_folds(app, config):
    """myst-nb calls every folded cell "Toggle hidden content"."""
    app.add_node(HideCodeCellNode, override=True,
                 html=(open_fold, depart_HideCellInput))


def without_thebe(app, config):
    """Jupyter Book always loads sphinx-thebe, whose scripts name another host
    and are declared twice; pages of this book have no use for it."""
    for listeners in app.events.listeners.values():
        listeners[:] = [each for each in listeners if not
                        each.handler.__module__.startswith("sphinx_thebe")]
    app.registry.css_files[:] = [each for each in app.registry.css_files
                                 if "thebe" not in each[0]]


def setup(app):
    app.connect("config-inited", without_thebe)
    app.connect("config-inited", name_folds)
    app.connect("source-read", edit_notebook)
    app.connect("doctree-read", edit_page)
    app.connect("doctree-resolved", fold_long_runs)
    app.connect("doctree-resolved", add_captions)
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)
    app.connect("build-finished", copy_assets)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
