"""The commands of `python -m proxy`: one file a verb, found by its name (`config set` is `config/set.py`)."""
