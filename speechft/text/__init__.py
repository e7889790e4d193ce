"""Text models on the same core: pre-training, instruction tuning, preferences, rewards, judges and their evaluation."""
