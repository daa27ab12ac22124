"""The agent and its learner."""
