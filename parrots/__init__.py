"""The science: pure PyTorch that runs under torchrun or alone, and imports neither ray nor mlflow."""
