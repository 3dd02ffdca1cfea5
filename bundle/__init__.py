"""What training and worker agree on about a model; read `manifest.py`, then `decode.py`, then `golden.py`."""
