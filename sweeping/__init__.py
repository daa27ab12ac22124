"""Many trainings from one command: games x settings x seeds, on one machine or a cluster, and what came of them."""
