"""`python -m gensynth`, and with several processes `torchrun --nproc-per-node N -m gensynth`."""

from gensynth.cli import main

if __name__ == "__main__":
    main()
