"""GNet as tasks: training data, trainings on one or several GPUs, labelled results."""
