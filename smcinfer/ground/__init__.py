"""What everything stands on: arrays, errors, files, host calls, names, progress; nothing of inference."""
