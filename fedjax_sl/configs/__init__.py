"""Configurations of runs, and their JSON."""
