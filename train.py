"""Trains an experiment on as many processes as it is launched with.

accelerate launch train.py --config configs/fashion_mnist/dico_nano.yaml [key=value ...]
torchrun --nproc-per-node 2 train.py --config ... [key=value ...]
"""

from gensynth.cli import train_command

if __name__ == "__main__":
    train_command()
