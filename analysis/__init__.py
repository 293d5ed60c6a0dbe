"""Statistics and pictures from records. Imports neither torch nor ray."""
