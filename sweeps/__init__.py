"""Orchestration: declare, plan, run, mirror. The only room that imports ray or mlflow."""
