"""What MLflow is told of runs: the only package that imports mlflow."""
