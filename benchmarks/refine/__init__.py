"""What a short gradient refinement adds, and how fast training is on a CPU."""
