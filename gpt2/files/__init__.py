"""Files and what is in them: the floor below the chapters.

Written by hand, shown on no page. It knows nothing of models or tokenizers.
"""
