"""What a run of FedSL sends, computes, needs and converges to, computed before it."""
