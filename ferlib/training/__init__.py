"""Training: one run, one epoch, losses, optimisers, schedules, augmentation."""
