"""Training: `train(experiment)` runs, resumes and finishes an experiment."""
