"""What people look at: terminal, HTML pages, MLflow, plots. They read results, and nothing else."""
