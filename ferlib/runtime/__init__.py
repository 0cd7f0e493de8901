"""What every stage needs of the machine: files, errors, devices, processes, the paths of a run."""
