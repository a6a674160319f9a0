"""Parts of examples/train_perception.py: frames, network, training, export."""
