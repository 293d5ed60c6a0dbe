"""The sweeps that come with the package, one document each."""
