"""What stands between an environment and an agent."""
