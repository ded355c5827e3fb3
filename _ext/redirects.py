"""Old addresses of chapters lead to their pages of today.

Chapters were renumbered once. They are found by name, so that only the old
addresses stand here.
"""
import html
from pathlib import Path

OLD = ("01_config", "02_checks", "03_tokenizer", "04_embeddings", "05_conv1d",
       "06_attention", "07_kv_cache", "08_feed_forward", "09_block",
       "10_model", "11_pretrained", "12_generation", "13_data", "14_training",
       "15_scaling", "16_full_size_run", "17_zero_shot", "18_inside")
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>This page has moved</title>
<link rel="canonical" href="{canonical}">
<script>location.replace("{page}" + location.search + location.hash);</script>
<noscript><meta http-equiv="refresh" content="0; url={page}"></noscript>
</head>
<body><p>This page has moved: <a href="{page}">{page}</a></p></body>
</html>
"""


def moved(folder):
    """{old stem: stem of today} of the chapters in the folder that moved.

    Raises ValueError for an old stem whose name no chapter has.
    """
    today = {path.stem[3:]: path.stem
             for path in Path(folder).glob("[0-9][0-9]_*.ipynb")}
    lost = [old for old in OLD if old[3:] not in today]
    if lost:
        raise ValueError(f"no chapter to redirect to from {', '.join(lost)}")
    return {old: today[old[3:]] for old in OLD if old != today[old[3:]]}


def write_redirects(folder, outdir, baseurl):
    """Into outdir/chapters: a page for each old address that has none."""
    for old, new in moved(folder).items():
        canonical = f"{baseurl.rstrip('/')}/chapters/{new}.html"
        page = PAGE.format(canonical=html.escape(canonical), page=f"{new}.html")
        Path(outdir, "chapters", f"{old}.html").write_text(page, "utf-8")


def build_finished(app, error):
    if not error and app.builder.name == "html":
        write_redirects(Path(app.srcdir, "chapters"), app.outdir,
                        app.config.html_baseurl)


def setup(app):
    app.connect("build-finished", build_finished)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
