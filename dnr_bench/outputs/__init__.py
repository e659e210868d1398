"""Terminal, HTML pages, MLflow and plots, all of them views on results."""
