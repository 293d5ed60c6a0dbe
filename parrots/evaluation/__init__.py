"""How finished weights are scored."""
