"""The verbs of `parrots` by topic; sweeps/cli.py attaches them."""
