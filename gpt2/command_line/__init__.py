"""`python -m gpt2`: one module a command, and what the commands share.

Ordinary code on top of the modules that the chapters export. `app` puts the
commands together; `options` and `reports` lie below the commands.
"""
