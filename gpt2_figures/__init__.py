"""The drawings of the book: one module a chapter, one function a picture.

Chapters import them; `gpt2` never does. `style` says how all of them look,
`shapes` draws what recurs in them.
"""
