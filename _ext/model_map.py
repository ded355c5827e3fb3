"""The directive `{model-map}`: the book's map of GPT-2, each part a link."""
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from gpt2_figures.map import PARTS, linked_map


class ModelMap(SphinxDirective):
    """Inline SVG, so that parts can be links; text says the same elsewhere."""

    def run(self):
        chapters = {path.stem[3:]: f"chapters/{path.stem}.html"
                    for path in Path(self.env.srcdir, "chapters").glob("*.ipynb")}
        missing = PARTS.keys() - chapters.keys()
        if missing:
            raise self.error(f"no chapter for {', '.join(sorted(missing))}")
        return [nodes.raw("", f'<div class="model-map">{linked_map(chapters)}'
                              "</div>", format="html")]


def setup(app):
    app.add_directive("model-map", ModelMap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
