"""How a policy is scored: the protocol, the statistics, and the scores of others."""
