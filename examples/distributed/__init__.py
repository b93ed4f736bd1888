"""Training with many processes: `train.py` is the program, `launch.py` starts it several times on one machine."""
