"""What a run of FedLP-Q sends, computes and needs, computed before it."""
