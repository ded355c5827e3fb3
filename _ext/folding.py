"""What folds on a page, and the line it folds to; no Sphinx is needed here.

The words of a folded cell are its own: the first sentence of a docstring and
the names that the cell defines. So there is no second text to keep.
"""
import ast
import re

EXPORT = re.compile(r"#\| export\s*\n")
SHOWN_CHECKS = 3                # a longer run of ✓ lines folds


def code_of(cell):
    """The code without the export mark."""
    return EXPORT.sub("", "".join(cell["source"]), count=1)


def is_exported(cell):
    return bool(EXPORT.match("".join(cell["source"])))


def count_lines(cell):
    """Lines of code, without the export mark and empty lines."""
    return sum(bool(line.strip()) for line in code_of(cell).splitlines())


def kind(cell):
    """How the page shows a code cell: "removed", "solution", "drawing",
    "imports", "engine-room" or "visible"."""
    tags = cell["metadata"].get("tags", [])
    for tag, name in {"remove-cell": "removed", "solution": "solution",
                      "hide-input": "drawing"}.items():
        if tag in tags:
            return name
    if only_imports(code_of(cell)):
        return "imports"
    return "engine-room" if "engine-room" in tags else "visible"


def only_imports(code):
    """Imports, and calls without arguments that set up what they brought
    (`disable_progress_bar()`)."""
    if re.search(r"^\s*[!%]", code, re.M):      # a command of Jupyter
        return False
    statements = ast.parse(code).body
    return (bool(statements)
            and isinstance(statements[0], (ast.Import, ast.ImportFrom))
            and all(isinstance(each, (ast.Import, ast.ImportFrom))
                    or is_bare_call(each) for each in statements))


def is_bare_call(statement):
    call = getattr(statement, "value", None)
    return (isinstance(statement, ast.Expr) and isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and not call.args and not call.keywords)


def definitions(code):
    """The names that a cell defines; imports are not definitions."""
    for node in ast.parse(code).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in getattr(node, "targets", None) or [node.target]:
                yield from (n.id for n in ast.walk(target)
                            if isinstance(n, ast.Name)
                            and isinstance(n.ctx, ast.Store))


def summary(cell):
    """The line that a cell of imports or of the engine room folds to.

    "Refuse masks of another shape · 18 lines, exported": `x` means code.
    """
    code, lines = code_of(cell), count_lines(cell)
    words = "Imports" if only_imports(code) else what_it_does(code)
    return (f"{words} · {lines} line{'s' * (lines > 1)}"
            + ", exported" * is_exported(cell))


def what_it_does(code):
    names = list(dict.fromkeys(definitions(code)))
    names = [name for name in names if name[0] != "_"] or names
    listed = ", ".join(f"`{name}`" for name in names)
    if len(names) > 3:                      # one sentence cannot speak for all
        return listed
    for node in ast.parse(code).body:
        if getattr(node, "name", None) in names:
            words = first_sentence(ast.get_docstring(node) or "")
            if words and len(names) > 1:
                words += f" ({listed})"
            return words or listed
    return listed


def first_sentence(docstring):
    """Without its full stop; "…" and "?" stay."""
    text = " ".join(docstring.split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.?!])\s", text)[0]
    return re.sub(r"(?<!\.)\.$", "", sentence)


def fold_checks(text):
    """A run of ✓ lines → (what is shown, what folds, how many fold).

    An indented line belongs to the ✓ line above it.
    """
    entries = re.findall(r"^✓.*\n?(?:^ .*\n?)*", text, re.M)
    if len(entries) <= SHOWN_CHECKS:
        return text, "", 0
    return entries[0], "".join(entries[1:]), len(entries) - 1
